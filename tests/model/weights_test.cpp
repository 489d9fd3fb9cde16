#include "model/weights.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "base/file.h"
#include "base/float16.h"
#include "support/checkpoint_writer.h"
#include "support/failure.h"
#include "support/places.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;

namespace {

/// A checkpoint in a temporary folder with its weights bound.
struct Bound {
  explicit Bound(const TinyModel& model)
      : checkpoint(Checkpoint::open(write_checkpoint(model, directory.path()))),
        config(ModelConfig::parse(*checkpoint.text("config.json"), "config.json")),
        weights(bind_weights(checkpoint, config)) {}
  TemporaryDirectory directory;
  Checkpoint checkpoint;
  ModelConfig config;
  Weights weights;
};

/// The message for a tiny model after `change` to its tensors.
std::string refusal(const TinyModel& model, const std::function<void(std::vector<RawTensor>&)>& change,
                    ErrorKind kind = ErrorKind::checkpoint) {
  const TemporaryDirectory directory;
  auto tensors = make_tensors(model);
  change(tensors);
  write_file(directory / "config.json", config_json(model));
  write_shards(directory.path(), tensors, 1);
  return failure(kind, [&] {
    const auto checkpoint = Checkpoint::open(directory.path());
    bind_weights(checkpoint, ModelConfig::parse(*checkpoint.text("config.json"), "config.json"));
  });
}

RawTensor& named(std::vector<RawTensor>& tensors, const std::string& end) {
  for (RawTensor& tensor : tensors)
    if (tensor.name.size() >= end.size() && tensor.name.substr(tensor.name.size() - end.size()) == end) return tensor;
  FAIL("no tensor " << end);
  return tensors.front();
}

void drop(std::vector<RawTensor>& tensors, const std::string& end) {
  RawTensor& tensor = named(tensors, end);
  tensors.erase(tensors.begin() + (&tensor - tensors.data()));
}

void become(RawTensor& tensor, const char* dtype, std::vector<std::int64_t> shape, std::size_t element) {
  std::size_t bytes = element;
  for (const std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.bytes.assign(bytes, std::byte{0});
}

std::uint64_t bytes_of(const std::vector<ExpectedTensor>& tensors, std::string_view kind) {
  std::uint64_t bytes = 0;
  for (const ExpectedTensor& tensor : tensors)
    if (kind.empty() || tensor.kind == kind) bytes += tensor.bytes;
  return bytes;
}

}  // namespace

TEST_CASE("the 35B config gives the published number of tensors and bytes") {
  const auto config =
      ModelConfig::parse(read_text(fs::path(test::source_dir()) / "models/configs/qwen3.5-35b-a3b-4bit.json"), "35b");
  const auto tensors = expected_tensors(config);
  CHECK(tensors.size() == 1757);
  CHECK(bytes_of(tensors, "experts") == 18119393280);
  CHECK(bytes_of(tensors, "") - bytes_of(tensors, "experts") == 1378869376);
  CHECK(bytes_of(tensors, "embedding") == 248320 * (1024 + 2 * 64));
  CHECK(bytes_of(tensors, "head") == bytes_of(tensors, "embedding"));
  CHECK(bytes_of(tensors, "norms") == (2 * 40 + 1) * 2048 * 2);
}

TEST_CASE("the pocket checkpoint holds exactly the tensors expected of its config") {
  const auto checkpoint = Checkpoint::open(fs::path(test::source_dir()) / "models/pocket");
  const auto config = ModelConfig::parse(*checkpoint.text("config.json"), "config.json");
  const auto tensors = expected_tensors(config);
  CHECK(tensors.size() == checkpoint.tensors().size());
  for (const ExpectedTensor& expected : tensors) {
    const Tensor& tensor = checkpoint.tensor(expected.name);
    CHECK(tensor.dtype == expected.dtype);
    CHECK(tensor.shape == expected.shape);
    CHECK(tensor.bytes.size() == expected.bytes);
  }
  const auto weights = bind_weights(checkpoint, config);
  CHECK(weights.layers[0].router.storage == Matrix::Storage::q8);
  CHECK(weights.layers[0].experts.up_proj.storage == Matrix::Storage::q4);
  CHECK(weights.layers[3].kind == LayerKind::full_attention);
}

TEST_CASE("weights are bound where they lie in the mapped shards, at odd offsets too") {
  TinyModel model = two_layers();
  model.odd_offsets = true;
  model.shards = 2;
  const Bound bound(model);
  const LayerWeights& linear = bound.weights.layers[0];
  const LayerWeights& attention = bound.weights.layers[1];
  CHECK(linear.kind == LayerKind::linear_attention);
  CHECK(linear.delta.in_proj_qkv.out == 2 * 128 + 256);
  CHECK(linear.delta.in_proj_qkv.in == 128);
  CHECK(linear.delta.conv1d.size == 512 * 4);
  CHECK(linear.delta.A_log.dtype == DType::f32);
  CHECK(attention.attention.q_proj.out == 2 * 4 * 64);
  CHECK(attention.attention.o_proj.in == 256);
  CHECK(attention.experts.down_proj.count == 4);
  CHECK(attention.shared_expert_gate.out == 1);
  const Tensor& tensor = bound.checkpoint.tensor("language_model.model.layers.0.input_layernorm.weight");
  CHECK(linear.input_layernorm.data == tensor.bytes.data());
  CHECK(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % 2 == 1);
  const auto values = linear.input_layernorm.to_f32();
  CHECK(values.size() == 128);
  CHECK(values[5] == bf16_to_f32(load<std::uint16_t>(tensor.bytes.data() + 10)));
  CHECK(std::all_of(values.begin(), values.end(), [](float v) { return v > 0.6f && v < 1.4f; }));
}

TEST_CASE("an expert is the slice of its matrix, and rows are a slice of one") {
  for (const int bits : {4, 8, 0}) {
    TinyModel model = two_layers();
    model.bits = bits;
    const Bound bound(model);
    const Matrix& all = bound.weights.layers[0].experts.down_proj;  // [4, 128, 64]
    const Matrix one = all.expert(3);
    CHECK(one.count == 1);
    CHECK(one.out == 128);
    CHECK(one.row_bytes() == (bits == 4 ? 32u : bits == 8 ? 64u : 128u));
    CHECK(one.weight - all.weight == 3 * 128 * static_cast<std::ptrdiff_t>(one.row_bytes()));
    const Tensor& tensor = bound.checkpoint.tensor("language_model.model.layers.0.mlp.switch_mlp.down_proj.weight");
    CHECK(one.weight + 128 * one.row_bytes() == tensor.bytes.data() + tensor.bytes.size());
    if (bits != 0) CHECK(one.scales - all.scales == 3 * 128 * 2);
    if (bits != 0) CHECK(one.biases - all.biases == 3 * 128 * 2);
    if (bits == 0) CHECK(one.scales == nullptr);
    const Matrix some = one.rows(5, 100);
    CHECK(some.out == 100);
    CHECK(some.in == one.in);
    CHECK(some.weight - one.weight == 5 * static_cast<std::ptrdiff_t>(one.row_bytes()));
    if (bits != 0) CHECK(some.scales - one.scales == 5 * 2);
    if (bits != 0) CHECK(some.biases - one.biases == 5 * 2);
    if (bits == 0) CHECK(some.scales == nullptr);
  }
}

TEST_CASE("storage follows the checkpoint: 4 and 8 bits, modules left alone, bf16, f16 and f32") {
  TinyModel model = two_layers();
  model.bits = 8;
  model.module_bits = {{"language_model.lm_head", 4}, {"language_model.model.layers.0.mlp.gate", 0}};
  model.plain_dtype = "F16";
  const Bound mixed(model);
  CHECK(mixed.weights.embed_tokens.storage == Matrix::Storage::q8);
  CHECK(mixed.weights.lm_head.storage == Matrix::Storage::q4);
  CHECK(mixed.weights.layers[0].router.storage == Matrix::Storage::f16);
  CHECK(mixed.weights.norm.dtype == DType::f16);
  CHECK(mixed.weights.norm.element(0) > 0.6f);
  const std::pair<const char*, Matrix::Storage> plain[] = {{"BF16", Matrix::Storage::bf16},
                                                           {"F32", Matrix::Storage::f32}};
  for (const auto& [dtype, storage] : plain) {
    model = two_layers();
    model.bits = 0;
    model.plain_dtype = dtype;
    const Bound bound(model);
    CHECK(bound.weights.layers[1].attention.q_proj.storage == storage);
    CHECK(bound.weights.layers[0].delta.A_log.element(0) < 2.1f);
  }
}

TEST_CASE("dense models have one MLP a layer and tied ones use the embedding as head") {
  TinyModel model = two_layers();
  model.experts = 0;
  model.tied = true;
  const Bound bound(model);
  CHECK(bound.weights.layers[0].mlp.gate_proj.out == 192);
  CHECK(bound.weights.layers[0].mlp.down_proj.in == 192);
  CHECK(bound.weights.layers[0].router.weight == nullptr);
  CHECK(bound.weights.lm_head.weight == bound.weights.embed_tokens.weight);
  CHECK(bound.weights.lm_head.out == model.vocab);
}

TEST_CASE("ratios of heads, kernel sizes and spellings other than the usual ones bind") {
  for (const int ratio : {1, 2, 3, 4})
    for (const NameStyle style : {NameStyle::hugging_face, NameStyle::text_only}) {
      TinyModel model = two_layers();
      model.linear_value_heads = model.linear_key_heads * ratio;
      model.taps = 2 + ratio;
      model.names = style;
      model.module_bits = {{"language_model.model.layers.1.mlp.gate", 8}};
      const Bound bound(model);
      CHECK(bound.weights.layers[0].delta.in_proj_z.out == 128 * ratio);
      CHECK(bound.weights.layers[0].delta.conv1d.size == bound.config.conv_dim() * model.taps);
      CHECK(bound.weights.layers[1].router.storage == Matrix::Storage::q8);
    }
}

TEST_CASE("a missing tensor is named") {
  CHECK(contains(refusal(two_layers(), [](auto& t) { drop(t, "layers.1.self_attn.k_norm.weight"); }),
                 "tensor language_model.model.layers.1.self_attn.k_norm.weight is missing"));
  CHECK(contains(refusal(two_layers(), [](auto& t) { drop(t, "lm_head.biases"); }),
                 "tensor language_model.lm_head.biases is missing"));
  CHECK(contains(refusal(two_layers(),
                         [](auto& t) {
                           for (const char* part : {".weight", ".scales", ".biases"})
                             drop(t, std::string("lm_head") + part);
                         }),
                 "tensor language_model.lm_head.weight is missing"));
}

TEST_CASE("tensors that are not the model's are named: a bias, an adapter, a layer too many, a second head") {
  const auto with = [](const char* name, TinyModel model = two_layers()) {
    return refusal(model, [&](auto& t) { t.push_back({name, "BF16", {128}, std::vector<std::byte>(256)}); });
  };
  CHECK(contains(with("language_model.model.layers.1.self_attn.q_proj.bias"),
                 "tensor language_model.model.layers.1.self_attn.q_proj.bias is not one of this model's"));
  CHECK(
      contains(with("model.layers.1.self_attn.q_proj.lora_a"), "q_proj.lora_a is not one of this model's: merge the"));
  CHECK(contains(with("model.layers.2.input_layernorm.weight"),
                 "config.json has num_hidden_layers 2, but the tensors are those of 3 layers"));
  CHECK(contains(with("something.else"), "tensor something.else is not one of this model's"));
  TinyModel tied = two_layers();
  tied.tied = true;
  CHECK(contains(with("language_model.lm_head.weight", tied), "tie_word_embeddings true, but the head is another"));
}

TEST_CASE("fewer layers than the config has are counted, and a shard that is not there is named") {
  TinyModel more = two_layers();
  more.layers = 4;
  const auto message = refusal(more, [](auto& t) { t = make_tensors(two_layers()); });
  CHECK(contains(message, " tensors are missing: language_model.model.layers.2.input_layernorm.weight, "));
  CHECK(contains(message, " more: config.json has num_hidden_layers 4, but the tensors are those of 2 layers"));
}

TEST_CASE("what is missing, left over and of another shape is told in one line") {
  const auto message = refusal(two_layers(), [](auto& t) {
    drop(t, "layers.1.self_attn.k_norm.weight");
    drop(t, "layers.1.self_attn.q_norm.weight");
    become(named(t, "model.norm.weight"), "BF16", {64}, 2);
    t.push_back({"a.bias", "BF16", {1}, std::vector<std::byte>(2)});
    t.push_back({"b.bias", "BF16", {1}, std::vector<std::byte>(2)});
  });
  CHECK(contains(message,
                 ": 2 tensors are missing: language_model.model.layers.1.self_attn.q_norm.weight, "
                 "language_model.model.layers.1.self_attn.k_norm.weight; tensor language_model.model.norm.weight is "
                 "BF16 [64], expected BF16 [128]; 2 tensors are not this model's: a.bias, b.bias"));
}

TEST_CASE("rotary tables, and a head that is the tied embedding once more, are no tensors too many") {
  TinyModel model = two_layers();
  model.tied = true;
  model.extra_tensors = true;
  const TemporaryDirectory directory;
  auto tensors = make_tensors(model);
  for (const char* part : {".weight", ".scales", ".biases"}) {
    RawTensor copy = named(tensors, std::string("embed_tokens") + part);
    copy.name = std::string("language_model.lm_head") + part;
    tensors.push_back(copy);
  }
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {2}, std::vector<std::byte>(8)});
  write_file(directory / "config.json", config_json(model));
  write_shards(directory.path(), tensors, 1);
  const auto checkpoint = Checkpoint::open(directory.path());
  const auto weights = bind_weights(checkpoint, ModelConfig::parse(*checkpoint.text("config.json"), "config.json"));
  CHECK(weights.lm_head.weight == weights.embed_tokens.weight);
}

TEST_CASE("a tensor of another dtype or shape is named with both") {
  CHECK(contains(refusal(two_layers(), [](auto& t) { become(named(t, "model.norm.weight"), "BF16", {64}, 2); }),
                 "tensor language_model.model.norm.weight is BF16 [64], expected BF16 [128]"));
  CHECK(contains(refusal(two_layers(), [](auto& t) { become(named(t, "model.norm.weight"), "I16", {128}, 2); }),
                 "is I16 [128], expected BF16 [128]"));
  CHECK(contains(refusal(two_layers(),
                         [](auto& t) {
                           become(named(t, "lm_head.weight"), "U32", {320, 17}, 4);
                         }),
                 "tensor language_model.lm_head.weight is U32 [320, 17], expected U32 [320, 16]"));
  CHECK(contains(refusal(two_layers(),
                         [](auto& t) {
                           become(named(t, "lm_head.weight"), "I32", {320, 16}, 4);
                         }),
                 "is I32 [320, 16], expected U32 [320, 16]"));
  CHECK(contains(refusal(two_layers(),
                         [](auto& t) {
                           become(named(t, "lm_head.scales"), "BF16", {320, 1}, 2);
                         }),
                 "is BF16 [320, 1], expected BF16 [320, 2]"));
  CHECK(contains(refusal(two_layers(),
                         [](auto& t) {
                           become(named(t, "lm_head.biases"), "F32", {320, 2}, 4);
                         }),
                 "language_model.lm_head.biases is F32 [320, 2], expected BF16 [320, 2]"));
  CHECK(contains(refusal(two_layers(),
                         [](auto& t) {
                           become(named(t, "layers.0.mlp.switch_mlp.up_proj.weight"), "U32", {3, 64, 16}, 4);
                         }),
                 "is U32 [3, 64, 16], expected U32 [4, 64, 16]"));
  TinyModel plain = two_layers();
  plain.bits = 0;
  CHECK(contains(refusal(plain,
                         [](auto& t) {
                           become(named(t, "lm_head.weight"), "BF16", {320, 64}, 2);
                         }),
                 "is BF16 [320, 64], expected BF16 [320, 128]"));
}

TEST_CASE("a packed weight without its scales is refused") {
  CHECK(contains(refusal(two_layers(), [](auto& t) { drop(t, "lm_head.scales"); }),
                 "tensor language_model.lm_head.weight is U32 [320, 16], expected a tensor "
                 "language_model.lm_head.scales next to it"));
}

TEST_CASE("bits that the shapes contradict are a contradiction of the config") {
  const auto widen = [](auto& t) { become(named(t, "lm_head.weight"), "U32", {320, 32}, 4); };
  CHECK(contains(refusal(two_layers(), widen, ErrorKind::config),
                 "language_model.lm_head: is said to have 4 bits, but its weight U32 [320, 32] and scales BF16 [320, "
                 "2] are 8 bits"));
  TinyModel model = two_layers();
  const TinyModel quantized = model;
  model.module_bits = {{"language_model.lm_head", 8}};
  const auto replace = [&](auto& t) { t = make_tensors(quantized); };
  CHECK(contains(refusal(model, replace, ErrorKind::config), "is said to have 8 bits"));
  model.module_bits = {{"language_model.lm_head", 0}};
  CHECK(contains(refusal(model, replace, ErrorKind::config), "language_model.lm_head: is said not to be quantized"));
  const TinyModel left_alone = model;
  model.module_bits = {{"language_model.lm_head", 8}};
  CHECK(contains(refusal(
                     model, [&](auto& t) { t = make_tensors(left_alone); }, ErrorKind::config),
                 "is said to have 8 bits, but its weight is BF16 [320, 128] without scales"));
}

TEST_CASE("a checkpoint as Hugging Face has it, not converted, is recognised") {
  TinyModel plain = two_layers();
  plain.bits = 0;
  CHECK(contains(refusal(plain,
                         [](auto& t) {
                           become(named(t, "conv1d.weight"), "BF16", {512, 1, 4}, 2);
                         }),
                 "is not in MLX format"));
  CHECK(contains(refusal(plain,
                         [](auto& t) {
                           for (const char* part : {"gate_proj", "up_proj", "down_proj"})
                             drop(t, std::string("layers.0.mlp.switch_mlp.") + part + ".weight");
                           become(named(t, "conv1d.weight"), "BF16", {512, 4, 1}, 2);
                           t.push_back({"language_model.model.layers.0.mlp.experts.gate_up_proj",
                                        "BF16",
                                        {4, 128, 128},
                                        std::vector<std::byte>(4 * 128 * 128 * 2)});
                         }),
                 "is not in MLX format"));
}
