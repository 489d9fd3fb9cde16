#include "measure/agreement/codec_level.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <numbers>

#include "codec/basis.h"
#include "codec/rotation.h"
#include "codec/side_codec.h"
#include "codec/sign_matrix.h"

namespace tqkv::measure {
namespace {

// Standard normal numbers by their place in a stream: the hash of S, at rows that no S has.
class Normal {
 public:
  explicit Normal(int stream) : stream_(stream) {}
  double operator()() {
    const std::uint64_t hash = codec::matrix_hash(static_cast<std::uint64_t>(stream_), 65535, count_ & 65535);
    const std::uint64_t mixed = codec::matrix_hash(hash, 65534, count_++ >> 16);
    return codec::normal_quantile((static_cast<double>(mixed >> 12) + 0.5) * 0x1p-52);
  }

 private:
  int stream_;
  int count_ = 0;
};

struct Mean {
  double sum = 0, squares = 0;
  int count = 0;
  void add(double x) {
    sum += x;
    squares += x * x;
    ++count;
  }
  double mean() const { return count > 0 ? sum / count : 0.0; }
  double se() const {
    if (count < 2) return 0.0;
    const double variance = std::max(0.0, squares / count - mean() * mean()) * count / (count - 1);
    return std::sqrt(variance / count);
  }
};

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// Channels that a split takes, by all vectors of the part.
std::vector<int> strongest(const CodecVectors& part, int dim) {
  std::vector<double> squares(static_cast<std::size_t>(dim));
  for (std::size_t i = 0; i < part.values.size(); ++i)
    squares[i % squares.size()] += static_cast<double>(part.values[i]) * static_cast<double>(part.values[i]);
  return codec::strongest_channels(squares);
}

// x as a session would give it back: to the basis of the side, encoded, decoded, lowered, and back.
class RoundTrip {
 public:
  RoundTrip(const SideFormat& format, std::uint64_t seed, int dim, const CodecVectors& part) {
    codec_ = codec::side_codec(format, dim);
    if (codec_.signs > 0) {
      matrix_ = std::make_unique<codec::SignMatrix>(format.projection, codec_.signs, dim, seed);
      codec_ = codec::side_codec(format, dim, matrix_.get());
    }
    basis_ = format.kind == SideFormat::Kind::split
                 ? codec::Basis::split(strongest(part, dim), seed, part.layer, part.head, dim)
                 : codec::Basis::of(format, seed, part.layer, part.head, dim);
    codes_.resize(codec_.code_bytes);
    scalars_.resize(codec_.scalar_bytes);
    decoded_.resize(static_cast<std::size_t>(codec_.space()));
  }
  void operator()(std::span<const float> x, std::span<float> back) {
    std::vector<float> y(x.begin(), x.end());
    basis_.apply(y);
    codec::encode(codec_, y, codes_.data(), scalars_.data());
    codec::decode(codec_, codes_.data(), scalars_.data(), decoded_);
    const auto direct = static_cast<std::size_t>(codec_.direct);
    std::fill(back.begin(), back.end(), 0.0f);
    std::copy_n(decoded_.begin(), direct, back.begin());
    if (matrix_) matrix_->add_transposed(std::span<const float>(decoded_).subspan(direct), back);
    basis_.revert(back);
  }
  double bits() const { return 8.0 * static_cast<double>(codec_.vector_bytes()) / codec_.dim; }

 private:
  codec::SideCodec codec_;
  std::unique_ptr<codec::SignMatrix> matrix_;
  codec::Basis basis_;
  std::vector<std::byte> codes_, scalars_;
  std::vector<float> decoded_;
};

// Distortion of Lloyd-Max codes of N(0,1) with 0 to 5 bits (docs/formats.md, 3).
constexpr double lloyd_max[] = {1.0, 0.363380, 0.117482, 0.034548, 0.009501, 0.002505};

// arXiv 2504.19874: theorems 1, 2 and 3. Scores of prod and qjl also have their exact variance.
void add_theory(const SideFormat& side, int dim, CodecFigures& figures) {
  const double pi = std::numbers::pi, bits = side.bits;
  switch (side.kind) {
    case SideFormat::Kind::turboquant:
    case SideFormat::Kind::trellis:
      figures.lower = std::pow(4.0, -bits);
      figures.upper = std::numbers::sqrt3 * pi / 2.0 * std::pow(4.0, -bits);
      if (side.kind == SideFormat::Kind::turboquant && side.scalar == KvScalar::norm)
        figures.expected = lloyd_max[side.bits];
      return;
    case SideFormat::Kind::prod:
      figures.lower = std::pow(4.0, -bits);
      figures.upper = std::numbers::sqrt3 * pi * pi * std::pow(4.0, -bits);
      figures.expected =
          lloyd_max[side.bits - 1] * (side.projection == Projection::gaussian ? pi / 2.0 - 1.0 / dim : pi / 2.0 - 1.0);
      return;
    case SideFormat::Kind::signs:
      if (side.projection == Projection::gaussian) figures.expected = (dim * pi / 2.0 - 1.0) / side.rows;
      return;
    default:
      return;
  }
}

CodecFigures measure_side(const SideFormat& side, std::uint64_t seed, int dim, const CodecInput& input) {
  CodecFigures figures;
  figures.stored = side.describe();
  figures.input = input.name;
  Normal normal(7);
  Mean distortion, bias, variance;
  const auto d = static_cast<std::size_t>(dim);
  std::vector<float> back(d), query(d);
  for (const CodecVectors& part : input.parts) {
    RoundTrip round_trip(side, seed, dim, part);
    figures.bits_per_value = round_trip.bits();
    for (std::size_t at = 0; at + d <= part.values.size(); at += d) {
      const auto x = std::span<const float>(part.values).subspan(at, d);
      const double square = dot(x, x);
      if (!(square > 0.0)) continue;
      round_trip(x, back);
      const double product = dot(x, back);
      distortion.add((square - 2.0 * product + dot(back, back)) / square);
      bias.add(product / square - 1.0);
      for (float& value : query) value = static_cast<float>(normal());
      const double error = dot(query, back) - dot(query, x);
      variance.add(static_cast<double>(dim) * error * error / dot(query, query) / square);
    }
  }
  figures.count = distortion.count;
  figures.distortion = distortion.mean();
  figures.distortion_se = distortion.se();
  figures.bias = bias.mean();
  figures.bias_se = bias.se();
  figures.score_variance = variance.mean();
  figures.score_variance_se = variance.se();
  if (input.name == "gaussian") add_theory(side, dim, figures);
  return figures;
}

}  // namespace

CodecInput gaussian_input(int dim, int count) {
  CodecInput input{"gaussian", {{}}};
  std::vector<float>& values = input.parts.front().values;
  Normal normal(1);
  values.resize(static_cast<std::size_t>(dim) * static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(normal());
  return input;
}

CodecInput adversarial_input(int dim) {
  CodecInput input{"adversarial", {{}}};
  std::vector<float>& values = input.parts.front().values;
  const auto d = static_cast<std::size_t>(dim);
  const auto add = [&](const auto& value_at) {
    for (std::size_t c = 0; c < d; ++c) values.push_back(static_cast<float>(value_at(c)));
  };
  Normal normal(2);
  for (std::size_t i = 0; i < d; i += 4) {
    add([&](std::size_t c) { return c == i ? 1.0 : 0.0; });                                   // one channel
    add([&](std::size_t c) { return c == i || c == (7 * i + 3) % d ? 1.0 : 0.0; });           // two
    add([&](std::size_t c) { return std::popcount(c & i) % 2 == 0 ? 1.0 : -1.0; });           // a Hadamard row
    add([&](std::size_t c) { return c % 61 == i % 61 ? 100.0 * normal() : normal(); });       // huge channels
    add([&](std::size_t c) { return c % 16 == 3 ? 50.0 + normal() : normal(); });             // constant offsets
    add([&](std::size_t c) { return 1.0 + 0.1 * normal() + 0.0 * static_cast<double>(c); });  // nearly constant
  }
  return input;
}

KvFormat::Sides usual_sides(const KvFormat& format, const ModelConfig& config) {
  struct Counted {
    KvFormat::Sides sides;
    int layers = 0;
  };
  std::vector<Counted> all;
  for (int layer = 0, index = 0; layer < config.num_layers(); ++layer) {
    if (config.layers[static_cast<std::size_t>(layer)] != LayerKind::full_attention) continue;
    const KvFormat::Sides own = format.sides(layer, index++, config.attention_layers());
    auto found = std::find_if(all.begin(), all.end(),
                              [&](const Counted& one) { return one.sides.k == own.k && one.sides.v == own.v; });
    if (found == all.end()) found = all.insert(all.end(), {own, 0});
    ++found->layers;
  }
  if (all.empty()) return {format.k, format.v};
  return std::max_element(all.begin(), all.end(),
                          [](const Counted& a, const Counted& b) { return a.layers < b.layers; })
      ->sides;
}

std::vector<CodecFigures> measure_codec(const KvFormat& format, const KvFormat::Sides& sides, int dim,
                                        std::span<const CodecInput> inputs) {
  std::vector<CodecFigures> all;
  const auto add = [&](const SideFormat& side, const char* label, const CodecInput& input) {
    all.push_back(measure_side(side, format.seed, dim, input));
    all.back().format = format.canonical();
    all.back().side = label;
  };
  for (const CodecInput& input : inputs) {
    const bool keys = input.name == captured_keys, values = input.name == captured_values;
    if (!keys && !values && sides.k == sides.v) {
      add(sides.k, "K and V", input);
      continue;
    }
    if (!values) add(sides.k, "K", input);
    if (!keys) add(sides.v, "V", input);
  }
  return all;
}

}  // namespace tqkv::measure
