// The caches of the two engines, byte by byte. What an engine stores is what the scalar codec makes of the keys and
// values that this engine computed, but for ties. Where the two store other codes, their numbers lie on both sides of a
// boundary. And over the same bytes both compute the same.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "base/file.h"
#include "cache/session/reader.h"
#include "codec/method.h"
#include "codec/rotation.h"
#include "codec/side_codec.h"
#include "mlx/support.h"
#include "mlx/ties.h"
#include "runtime/mlx/device.h"
#include "support/temporary_directory.h"
#include "tqkv/model.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

using cache::SessionPart;
using cache::SessionTensor;

/// Keys and values as the cache gets them, in the order of tokens, by layer.
class Inputs final : public Observer {
 public:
  void hidden(int, std::span<const float>, int) override {}
  void keys_values(int layer, std::span<const float> keys, std::span<const float> values, int) override {
    for (const auto& [is_key, more] : {std::pair(true, keys), std::pair(false, values)}) {
      std::vector<float>& rows = rows_[{layer, is_key}];
      rows.insert(rows.end(), more.begin(), more.end());
    }
  }
  /// The vector of a head.
  std::vector<float> vector(int layer, bool keys, int token, int head, const ModelConfig& config) const {
    const auto dim = static_cast<std::size_t>(config.head_dim);
    const std::size_t at = static_cast<std::size_t>(token * config.num_key_value_heads + head) * dim;
    const auto all = std::span(rows_.at({layer, keys})).subspan(at, dim);
    return {all.begin(), all.end()};
  }

 private:
  std::map<std::pair<int, bool>, std::vector<float>> rows_;
};

/// The mean of the first tokens, summed in their order.
std::vector<float> mean_of(const Inputs& inputs, int layer, int head, int tokens, const ModelConfig& config) {
  std::vector<float> mean(static_cast<std::size_t>(config.head_dim));
  for (int token = 0; token < tokens; ++token) {
    const std::vector<float> x = inputs.vector(layer, true, token, head, config);
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += x[i];
  }
  for (float& channel : mean) channel /= static_cast<float>(tokens);
  return mean;
}

/// What an engine stored of a text, and of what.
class Stored {
 public:
  /// All but the last `decoded` ids as a prompt.
  Stored(const Engine& engine, const KvFormat& format, std::span<const int> ids, std::size_t decoded)
      : config_(engine.config()) {
    const auto session = engine.open(format, options_of(static_cast<int>(ids.size()), 17));
    session->observe(&inputs_);
    session->prefill(ids.first(ids.size() - decoded));
    for (const int id : ids.last(decoded)) session->decode(id);
    const TemporaryDirectory directory;
    session->save(directory / "a.session");
    const MappedFile file(directory / "a.session");
    const cache::SessionReader reader(file.bytes(), "a.session");
    format_ = reader.identity().format;
    layout_ = reader.layout(config_, reader.identity().model);
    for (std::size_t i = 0; i < layout_.size(); ++i) {
      const auto bytes = reader.read(config_, layout_, i, [](int, int, const std::byte*) {});
      bytes_.emplace_back(bytes.begin(), bytes.end());
    }
  }
  const std::vector<SessionTensor>& layout() const { return layout_; }
  const ModelConfig& config() const { return config_; }
  const std::vector<std::byte>& bytes(std::size_t tensor) const { return bytes_[tensor]; }
  const std::byte* vector(std::size_t tensor, int token, int head) const {
    const SessionTensor& own = layout_[tensor];
    const auto heads = static_cast<std::size_t>(config_.num_key_value_heads);
    const std::size_t size = own.bytes / static_cast<std::size_t>(own.tokens) / heads;
    return bytes_[tensor].data() + (static_cast<std::size_t>(token) * heads + static_cast<std::size_t>(head)) * size;
  }

  /// What the codec of a tensor was given for its token `token`.
  std::vector<float> input(const SessionTensor& tensor, int token, int head) const {
    const int position = tensor.first_token + token;
    std::vector<float> x = inputs_.vector(tensor.layer, tensor.keys, position, head, config_);
    const bool centred =
        tensor.keys && format_.mean > 0 && position >= format_.mean && tensor.part != SessionPart::sink;
    if (centred) {
      const std::vector<float> mean = mean_of(inputs_, tensor.layer, head, format_.mean, config_);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] -= mean[i];
    }
    if (tensor.vectors.rotated())
      codec::rotate(x, codec::rotation_signs(format_.seed, tensor.layer, head, config_.head_dim));
    return x;
  }

  /// The mean as it is stored has the bits of the mean of the first tokens.
  void check_mean(std::size_t tensor) const {
    const int heads = config_.num_key_value_heads;
    for (int head = 0; head < heads; ++head) {
      const std::vector<float> mean = mean_of(inputs_, layout_[tensor].layer, head, format_.mean, config_);
      const std::size_t size = mean.size() * sizeof(float);
      CHECK(std::memcmp(mean.data(), bytes_[tensor].data() + static_cast<std::size_t>(head) * size, size) == 0);
    }
  }

  /// Every stored vector against the scalar codec.
  Ties against_scalar() const {
    Ties ties;
    for (std::size_t i = 0; i < layout_.size(); ++i) {
      const SessionTensor& tensor = layout_[i];
      if (tensor.part == SessionPart::mean) check_mean(i);
      if (!tensor.paged()) continue;
      const codec::SideCodec codec = codec::side_codec(tensor.vectors, config_.head_dim);
      std::vector<std::byte> expected(codec.vector_bytes());
      for (int token = 0; token < tensor.tokens; ++token)
        for (int head = 0; head < config_.num_key_value_heads; ++head) {
          const std::vector<float> x = input(tensor, token, head);
          codec::encode(codec, x, expected.data(), expected.data() + codec.code_bytes);
          compare(tensor.vectors, x, expected.data(), vector(i, token, head), ties);
        }
    }
    return ties;
  }

 private:
  ModelConfig config_;
  KvFormat format_;
  Inputs inputs_;
  std::vector<SessionTensor> layout_;
  std::vector<std::vector<std::byte>> bytes_;
};

/// How the caches of two engines differ in a layer.
struct Apart {
  long bytes = 0, other_bytes = 0;
  long codes = 0, groups = 0;  ///< that differ: single codes, and groups whose edges do
  double inputs = 0;           ///< the largest |a - b| / |a| of what the codecs were given
  double coordinates = 0;      ///< the largest distance of two coordinates with a boundary between them
  long unexplained = 0;  ///< of these, what has no boundary between its coordinates or is further apart than the inputs
};

double distance(std::span<const float> a, std::span<const float> b) {
  std::vector<float> difference(a.begin(), a.end());
  for (std::size_t i = 0; i < a.size(); ++i) difference[i] -= b[i];
  return codec::norm_of(difference);
}

// Codes of a that are not those of b. Where scale and bias of the group are made of the same edge, the boundary between
// two codes lies between the coordinates, up to rounding.
void straddle(const SideFormat& format, std::span<const float> a, std::span<const float> b, const std::byte* codes_a,
              const std::byte* codes_b, Apart& apart) {
  const int dim = static_cast<int>(a.size());
  const auto index_a = indices(format, dim, codes_a), index_b = indices(format, dim, codes_b);
  if (index_a == index_b) return;
  const std::vector<double> of_a = coordinates(format, a), of_b = coordinates(format, b);
  const std::vector<Edge> edges_a = edges(format, a), edges_b = edges(format, b);
  const auto other_edge = [&](std::size_t group) { return !edges_a[group].like(edges_b[group]); };
  double inputs = distance(a, b);
  if (format.kind == SideFormat::Kind::affine)  // rounds to bf16 first
    inputs += 0x1p-7 * static_cast<double>(std::abs(*std::max_element(
                           a.begin(), a.end(), [](float x, float y) { return std::abs(x) < std::abs(y); })));
  for (std::size_t group = 0; group < edges_a.size(); ++group) {
    if (!other_edge(group)) continue;
    ++apart.groups;
    apart.unexplained += edges_a[group].near(edges_b[group], inputs) ? 0 : 1;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (index_a[i] == index_b[i]) continue;
    if (!edges_a.empty() && other_edge(i / static_cast<std::size_t>(format.group))) continue;
    ++apart.codes;
    const bool below = index_a[i] < index_b[i];
    const double lower = below ? of_a[i] : of_b[i], upper = below ? of_b[i] : of_a[i];
    const double first = boundary(format, std::min(index_a[i], index_b[i])),
                 last = boundary(format, std::max(index_a[i], index_b[i]) - 1);
    const double slack = largest_tie_of_codes(dim) * rounding * std::max(std::abs(first), std::abs(last));
    const bool between = lower <= first + slack && upper >= last - slack;
    const bool near = upper - lower <= 1.01 * inputs * sensitivity(format, a) + slack;
    apart.unexplained += between && near ? 0 : 1;
    apart.coordinates = std::max(apart.coordinates, upper - lower);
  }
}

std::map<int, Apart> apart(const Stored& a, const Stored& b) {
  std::map<int, Apart> by_layer;
  REQUIRE(a.layout().size() == b.layout().size());
  for (std::size_t i = 0; i < a.layout().size(); ++i) {
    const SessionTensor& tensor = a.layout()[i];
    if (!tensor.paged()) continue;
    REQUIRE(a.bytes(i).size() == b.bytes(i).size());
    Apart& apart = by_layer[tensor.layer];
    const std::size_t size = codec::side_codec(tensor.vectors, a.config().head_dim).vector_bytes();
    for (int token = 0; token < tensor.tokens; ++token) {
      for (int head = 0; head < a.config().num_key_value_heads; ++head) {
        const std::vector<float> x = a.input(tensor, token, head), y = b.input(tensor, token, head);
        apart.inputs = std::max(apart.inputs, distance(x, y) / codec::norm_of(x));
        const std::byte *own = a.vector(i, token, head), *other = b.vector(i, token, head);
        apart.bytes += static_cast<long>(size);
        for (std::size_t c = 0; c < size; ++c) apart.other_bytes += own[c] != other[c] ? 1 : 0;
        if (tensor.vectors.kind != SideFormat::Kind::plain)  // what is plain is the nearest of either number
          straddle(tensor.vectors, x, y, own, other, apart);
      }
    }
  }
  return by_layer;
}

}  // namespace

TEST_CASE("what the two engines store differs where their own numbers lie on both sides of a boundary") {
  if (!tqkv::mlx::on_processor()) return;  // a GPU's affine codes have a rounding of their own
  const std::vector<int> doc = ids_of("doc");
  const std::pair<std::string, std::size_t> texts[] = {{"turboquant:bits=3", 65},
                                                       {"turboquant:k=5:v=4:mean=8:window=16", 0},
                                                       {"rotated_quant:bits=2:mean=8:window=16", 18},
                                                       {"rotated_quant:bits=4", 5},
                                                       {"mlx_quant", 65}};
  for (const auto& [text, first] : texts) {
    CAPTURE(text);
    const KvFormat format = KvFormat::parse(text);
    const std::span<const int> ids = std::span(doc).subspan(first, 52);
    const Stored cpu(on_cpu(), format, ids, 6), mlx(on_mlx(), format, ids, 6);
    for (const Stored* stored : {&cpu, &mlx}) {
      const Ties ties = stored->against_scalar();
      for (const std::string& other : ties.others) MESSAGE(other);
      CHECK(ties.others.empty());
      MESSAGE(text << ", " << std::string(stored == &cpu ? "processor" : "MLX") << ": " << ties.bytes << " bytes of "
                   << ties.vectors << " vectors differ from those of the scalar codec by " << ties.codes
                   << " codes and " << ties.scalars << " scalars that tie");
    }
    const std::map<int, Apart> layers = apart(cpu, mlx);
    for (const auto& [layer, found] : layers) {
      MESSAGE(text << ", layer " << layer << ": inputs within " << found.inputs << ", " << found.other_bytes << " of "
                   << found.bytes << " bytes differ; " << found.codes << " codes, whose coordinates are within "
                   << found.coordinates << ", and " << found.groups << " groups");
      CHECK(found.unexplained == 0);
    }
    CHECK(layers.begin()->second.inputs < 1e-5);  // no layer before it has read a cache
  }
}

// One code on the other side of a boundary is a step of a coordinate, and later layers follow. So the engines must
// agree to rounding again where both go on with what one of them stored, also where they would choose different words.
TEST_CASE("two engines whose caches differ by ties agree again over the bytes of either") {
  if (!tqkv::mlx::on_processor()) return;  // other bytes differ there
  const KvFormat format = KvFormat::parse("rotated_quant:bits=2:mean=8:window=16");
  const Tokenizer tokenizer = open_tokenizer(Checkpoint::open(pocket_directory()));
  const std::vector<int> all =
      tokenizer.encode(read_text(pocket_directory().parent_path() / "texts/documents.txt"), ControlStrings::parse);
  const std::span<const int> ids = std::span(all).subspan(1600, 199), before = ids.first(ids.size() - 1);
  const auto cpu = on_cpu().open(format, options_of(300, 40)), mlx = on_mlx().open(format, options_of(300, 40));
  cpu->prefill(before);
  mlx->prefill(before);
  const TemporaryDirectory directory;
  cpu->save(directory / "cpu.session");
  mlx->save(directory / "mlx.session");
  const auto mlx_over_cpu = on_mlx().restore(SavedSession::open(directory / "cpu.session"), options_of(300)),
             cpu_over_mlx = on_cpu().restore(SavedSession::open(directory / "mlx.session"), options_of(300));
  const std::vector<float> of_cpu = copy(cpu->decode(ids.back())), of_mlx = copy(mlx->decode(ids.back()));
  const std::span<const float> over_cpu = mlx_over_cpu->decode(ids.back()), over_mlx = cpu_over_mlx->decode(ids.back());

  const auto word = static_cast<std::size_t>(argmax(of_cpu)), other = static_cast<std::size_t>(argmax(of_mlx));
  const double apart = kl_divergence(of_cpu, of_mlx);
  MESSAGE("each over its own bytes " << apart << " nats apart: the processor has word " << word << " above " << other
                                     << " by " << of_cpu[word] - of_cpu[other] << ", MLX " << other << " above " << word
                                     << " by " << of_mlx[other] - of_mlx[word]);
  MESSAGE("both over the bytes of the processor " << kl_divergence(of_cpu, over_cpu) << " nats apart, of MLX "
                                                  << kl_divergence(of_mlx, over_mlx));
  CHECK(apart > 1e-7);  // else this text shows nothing: choose another
  CHECK(kl_divergence(of_cpu, over_cpu) < 1e-9);
  CHECK(kl_divergence(of_mlx, over_mlx) < 1e-9);
  CHECK(argmax(over_cpu) == argmax(of_cpu));
  CHECK(argmax(over_mlx) == argmax(of_mlx));
}
