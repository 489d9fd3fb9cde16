// Packed vectors and a block of queries that attends to them, for the tests of packed attention.
#pragma once
#include <array>
#include <cstring>
#include <limits>

#include "base/float16.h"
#include "codec/packing.h"
#include "codec/side_codec.h"
#include "codec/trellis/levels.h"
#include "kernel_inputs.h"

namespace tqkv::cpu {

using Kind = SideFormat::Kind;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int tile = 64;

inline codec::SideCodec trellis_codec(int bits, int states, int dim, KvScalar scalar = KvScalar::corrected) {
  SideFormat format;
  format.kind = Kind::trellis;
  format.bits = bits;
  format.scalar = scalar;
  format.states = states;
  return codec::side_codec(format, dim);
}

/// n vectors in a format, and the same decoded.
struct Side {
  codec::SideCodec codec;
  int n = 0;
  std::vector<std::byte> codes, scalars;

  Side(const codec::SideCodec& c, const std::vector<float>& x) : Side(c, static_cast<int>(x.size()) / c.dim) {
    for (int i = 0; i < n; ++i)
      codec::encode(codec, {x.data() + i * codec.dim, size(codec.dim)}, codes.data() + size(i) * codec.code_bytes,
                    scalars.data() + size(i) * codec.scalar_bytes);
  }
  Side(const codec::SideCodec& c, int count)
      : codec(c), n(count), codes(size(count) * c.code_bytes), scalars(size(count) * c.scalar_bytes) {}

  bool turboquant() const { return codec.format.kind == Kind::turboquant; }
  bool one_scale() const { return turboquant() || codec.format.kind == Kind::trellis; }
  int groups() const { return one_scale() ? 1 : codec.dim / codec.format.group; }
  const std::byte* codes_at(int i) const { return codes.data() + size(i) * codec.code_bytes; }
  const std::byte* scalars_at(int i) const { return scalars.data() + size(i) * codec.scalar_bytes; }

  std::vector<float> decoded() const {
    std::vector<float> x(size(n * codec.dim));
    for (int i = 0; i < n; ++i)
      codec::decode(codec, codes_at(i), scalars_at(i), {x.data() + i * codec.dim, size(codec.dim)});
    return x;
  }
  std::vector<std::uint8_t> indices(int i) const {
    std::vector<std::uint8_t> index(size(codec.dim));
    codec::unpack(codec.format.bits, codes_at(i), index);
    return index;
  }
  /// Codes of the levels of trellis vector i, 8 bits each.
  std::vector<int> levels(int i) const {
    const codec::TrellisTable& table = codec::trellis_table(codec.format.bits, codec.format.states);
    std::vector<std::uint8_t> bit(size(codec.dim)), choice(size(codec.dim));
    codec::unpack(1, codes_at(i), bit);
    codec::unpack(codec.format.bits - 1, codes_at(i) + codec.dim / 8, choice);
    std::vector<int> out;
    int window = 0;
    for (std::size_t c = 0; c < bit.size(); ++c) {
      window = (2 * window + bit[c]) % (2 * table.states);
      out.push_back(table.code[window * table.choices + choice[c]]);
    }
    return out;
  }
  /// Scale and bias of group g of vector i; of turboquant and trellis without the unit of centroids and levels.
  float scale(int i, int g) const {
    if (one_scale()) return f16_to_f32(half(scalars_at(i))) / std::sqrt(static_cast<float>(codec.dim));
    return bf16_to_f32(half(scalars_at(i) + 2 * g));
  }
  float bias(int i, int g) const { return one_scale() ? 0.0f : bf16_to_f32(half(scalars_at(i) + 2 * (groups() + g))); }

 private:
  static std::uint16_t half(const std::byte* p) {
    std::uint16_t bits;
    std::memcpy(&bits, p, 2);
    return bits;
  }
};

/// One block of queries as Forward attends to it: each side packed where it is asked for and there are kernels.
class Block {
 public:
  Block(const Kernels& kernels, std::vector<float> query, int dim)
      : kernels_(kernels.attention), dim_(dim), query_(std::move(query)) {
    const int queries = static_cast<int>(query_.size()) / dim;
    maximum_.assign(size(queries), -infinity);
    sum_.assign(size(queries), 0.0f);
    output_.assign(query_.size(), 0.0f);
    scores_.assign(size(queries * tile), std::nanf(""));
    scratch_.resize(kernels_.packed_scratch(queries, dim) + 64);
    q_.resize(2 * query_.size() + 64);
    query_scale_.resize(query_.size());
    query_sum_.resize(query_.size());
    query8_.q = aligned(q_);
    query8_.scale = query_scale_.data();
    query8_.sum = query_sum_.data();
    state_ = {queries, dim, query_.data(), maximum_.data(), sum_.data(), output_.data()};
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  /// visible[i] keys of all are seen by query i. Returns the attention's output.
  std::vector<float> attend(const Side& keys, const Side& values, const std::vector<int>& visible, bool pack_keys,
                            bool pack_values) {
    pack_keys = pack_keys && kernels_.packed_keys(keys.codec);
    pack_values = pack_values && kernels_.packed_values(values.codec);
    const auto key_rows = pack_keys ? std::vector<float>() : keys.decoded();
    const auto value_rows = pack_values ? std::vector<float>() : values.decoded();
    if (pack_keys) kernels_.quantize_queries(keys.codec, query_.data(), state_.queries, &query8_);
    for (int at = 0; at < keys.n; at += tile) {
      const int n = std::min(tile, keys.n - at);
      std::vector<int> seen;
      for (const int v : visible) seen.push_back(std::clamp(v - at, 0, n));
      if (pack_keys)
        scores_of(keys, at, n, seen);
      else
        kernels_.scores(state_, key_rows.data() + at * dim_, n, seen.data(), scores_.data());
      kernels_.weigh(state_, n, seen.data(), scores_.data());
      if (pack_values)
        kernels_.add_packed_values(values.codec, values.codes_at(at), values.scalars_at(at), n, state_, seen.data(),
                                   scores_.data(), aligned(scratch_));
      else
        kernels_.add_values(state_, value_rows.data() + at * dim_, n, seen.data(), scores_.data());
    }
    if (pack_values) kernels_.natural_order(values.codec, state_);
    auto out = output_;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] /= sum_[i / size(dim_)];
    return out;
  }

  /// The integer scores [queries, 64] of one tile.
  const std::vector<float>& scores(const Side& keys, int n, const std::vector<int>& seen) {
    kernels_.quantize_queries(keys.codec, query_.data(), state_.queries, &query8_);
    scores_of(keys, 0, n, seen);
    return scores_;
  }

  /// Weights [queries, 64] times the values of one tile.
  const std::vector<float>& weighted(const Side& values, int n, const std::vector<int>& seen,
                                     const std::vector<float>& weights) {
    kernels_.add_packed_values(values.codec, values.codes.data(), values.scalars.data(), n, state_, seen.data(),
                               weights.data(), aligned(scratch_));
    kernels_.natural_order(values.codec, state_);
    return output_;
  }

 private:
  void scores_of(const Side& keys, int at, int n, const std::vector<int>& seen) {
    kernels_.packed_scores(keys.codec, keys.codes_at(at), keys.scalars_at(at), n, query8_, seen.data(), scores_.data(),
                           aligned(scratch_));
  }
  static std::byte* aligned(std::vector<std::byte>& memory) {
    const auto at = reinterpret_cast<std::uintptr_t>(memory.data());
    return memory.data() + (64 - at % 64) % 64;
  }

  const AttentionKernels& kernels_;
  int dim_;
  std::vector<float> query_, maximum_, sum_, output_, scores_, query_scale_;
  std::vector<std::int32_t> query_sum_;
  std::vector<std::byte> scratch_, q_;
  Queries8 query8_;
  AttentionState state_;
};

inline std::vector<double> exact_attention(const std::vector<float>& query, const std::vector<float>& keys,
                                           const std::vector<float>& values, int dim, const std::vector<int>& visible) {
  std::vector<double> out(query.size());
  for (std::size_t i = 0; i < visible.size(); ++i) {
    std::vector<double> weight(size(visible[i]));
    double largest = -1e300, sum = 0;
    for (std::size_t j = 0; j < weight.size(); ++j) {
      for (std::size_t c = 0; c < size(dim); ++c)
        weight[j] += static_cast<double>(query[i * size(dim) + c]) * static_cast<double>(keys[j * size(dim) + c]);
      largest = std::max(largest, weight[j]);
    }
    for (double& w : weight) sum += w = std::exp(w - largest);
    for (std::size_t j = 0; j < weight.size(); ++j)
      for (std::size_t c = 0; c < size(dim); ++c)
        out[i * size(dim) + c] += weight[j] / sum * static_cast<double>(values[j * size(dim) + c]);
  }
  return out;
}

/// |a - b| / |b|
inline double relative(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0, squares = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    squares += b[i] * b[i];
  }
  return std::sqrt(difference / squares);
}

/// Any bytes as codes; the ends of the range in some vectors.
inline Side any_codes(const codec::SideCodec& codec, int n, Normal& normal) {
  Side side(codec, normal(size(n * codec.dim)));
  for (int i = 0; i < n; ++i)
    for (std::size_t c = 0; c < codec.code_bytes; ++c)
      side.codes[size(i) * codec.code_bytes + c] = static_cast<std::byte>(i % 5 == 0   ? 255
                                                                          : i % 5 == 1 ? 0
                                                                                       : normal.below(256));
  return side;
}

/// Queries of which some have all channels at the ends of the range.
inline std::vector<float> any_queries(int queries, int dim, Normal& normal) {
  auto query = normal(size(queries * dim), 0.3f);
  for (int i = 2; i < queries; i += 4) std::fill_n(query.begin() + i * dim, dim, i % 8 == 2 ? 1.5f : -0.5f);
  if (queries > 4) std::fill_n(query.begin() + 3 * dim, dim, 0.0f);
  return query;
}

struct Case {
  int n, queries;
};
inline constexpr std::array<Case, 8> cases{Case{64, 8}, Case{63, 5},  Case{1, 1},  Case{7, 2},
                                           Case{17, 3}, Case{33, 11}, Case{50, 4}, Case{64, 64}};

}  // namespace tqkv::cpu
