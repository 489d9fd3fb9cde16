#include "support/checkpoint_writer.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/float16.h"
#include "base/splitmix64.h"
#include "model/weights.h"
#include "support/places.h"
#include "tqkv/model_config.h"

namespace tqkv::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int pocket_vocab = 8192;  // rows of the pocket model's embedding

/// SplitMix64 and sums of it: no distribution of the standard library, whose results differ between implementations.
class Random {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed) {}
  std::uint64_t bits() { return splitmix64(seed_, count_++); }
  double uniform(double low, double high) { return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53; }
  double normal() {  // the sum of twelve uniform numbers is near enough
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform(0, 1);
    return sum;
  }

 private:
  std::uint64_t seed_, count_ = 0;
};

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string spelled(const std::string& canonical, NameStyle style) {
  constexpr std::string_view model = "language_model.model.", head = "language_model.lm_head";
  const std::string_view name = canonical;
  if (style == NameStyle::mlx) return canonical;
  if (name.substr(0, head.size()) == head) return std::string(name.substr(std::string_view("language_model.").size()));
  if (name.substr(0, model.size()) != model) return canonical;
  return (style == NameStyle::hugging_face ? "model.language_model." : "model.") +
         std::string(name.substr(model.size()));
}

void append(std::vector<std::byte>& bytes, const std::string& dtype, double value) {
  const auto put = [&](auto bits) {
    const std::size_t old = bytes.size();
    bytes.resize(old + sizeof bits);
    store(bytes.data() + old, bits);
  };
  const auto narrow = static_cast<float>(value);
  if (dtype == "F32") {
    put(narrow);
  } else if (dtype == "F16") {
    put(f32_to_f16(narrow));
  } else {
    put(f32_to_bf16(narrow));
  }
}

std::size_t count_of(const std::vector<std::int64_t>& shape) {
  std::size_t count = 1;
  for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
  return count;
}

/// Values of a tensor that is not packed. Matrices have a standard deviation of 1/sqrt(in): outputs are as large as
/// inputs.
double plain_value(const ExpectedTensor& tensor, Random& random) {
  if (ends_with(tensor.name, "A_log")) return std::log(random.uniform(0.5, 8));
  if (ends_with(tensor.name, "dt_bias")) return random.uniform(-4, 0);
  if (ends_with(tensor.name, "conv1d.weight")) return 0.5 * random.normal();
  if (ends_with(tensor.name, "norm.weight")) return random.uniform(0.7, 1.3);
  return random.normal() / std::sqrt(static_cast<double>(tensor.shape.back()));
}

/// The indices of a quantized module are uniform; scale and bias make them zero-mean with a deviation near 1/sqrt(in).
/// The scale is negative for a third of the groups, as MLX writes it.
void append_group(std::vector<std::byte>& scales, std::vector<std::byte>& biases, int bits, double in, Random& random) {
  const double levels = std::exp2(bits) - 1;
  const double sign = random.uniform(0, 3) < 1 ? -1 : 1;
  const double scale = sign * random.uniform(0.5, 1.5) * std::sqrt(12.0 / in) / (levels + 1);
  const float rounded = bf16_to_f32(f32_to_bf16(static_cast<float>(scale)));
  append(scales, "BF16", rounded);
  append(biases, "BF16", -rounded * levels / 2 * random.uniform(0.97, 1.03));
}

void write_bytes(std::ofstream& out, std::span<const std::byte> bytes) {
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

std::string little_endian(std::uint64_t value) {
  std::string text(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) text[i] = static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  return text;
}

std::ofstream opened(const fs::path& path) {
  std::ofstream out(path, std::ios::binary);
  if (!out) throw std::runtime_error("cannot write " + path.string());
  return out;
}

json read_json(const fs::path& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return json::parse(in);
}

/// The pocket model's tokenizer, or one of its 256 single bytes and its added tokens behind them.
json tokenizer_json(int vocab) {
  json tokenizer = read_json(fs::path(test::source_dir()) / "models" / "pocket" / "tokenizer.json");
  if (vocab >= pocket_vocab) return tokenizer;
  std::vector<std::string> bytes;
  const std::size_t merges = tokenizer["model"]["merges"].size();
  std::vector<std::pair<int, std::string>> ordered;
  for (const auto& [token, id] : tokenizer["model"]["vocab"].items()) ordered.emplace_back(id.get<int>(), token);
  std::sort(ordered.begin(), ordered.end());
  for (const auto& [id, token] : ordered) {
    // A single byte is one character of the GPT-2 byte map: at most two bytes of UTF-8.
    const auto first = static_cast<unsigned char>(token[0]);
    if (token.size() == (first < 0x80 ? 1u : 2u)) bytes.push_back(token);
  }
  if (merges == 0 || bytes.size() != 256) throw std::runtime_error("the pocket tokenizer has not 256 single bytes");
  json small = json::object();
  for (std::size_t i = 0; i < bytes.size(); ++i) small[bytes[i]] = i;
  tokenizer["model"]["vocab"] = small;
  tokenizer["model"]["merges"] = json::array();
  int next = 256;
  for (json& added : tokenizer["added_tokens"]) added["id"] = next++;
  if (next > vocab)
    throw std::runtime_error(fmt::format("a vocabulary of {} is too small, {} are needed", vocab, next));
  return tokenizer;
}

int added_id(const json& tokenizer, const char* content) {
  for (const json& added : tokenizer["added_tokens"])
    if (added["content"] == content) return added["id"].get<int>();
  throw std::runtime_error(std::string("no added token ") + content);
}

}  // namespace

void write_file(const fs::path& path, const std::string& text) {
  std::ofstream out = opened(path);
  out << text;
}

std::string config_json(const TinyModel& m) {
  const bool text_only = m.names == NameStyle::text_only;
  const std::string type = m.experts > 0 ? "qwen3_5_moe" : "qwen3_5";
  json layer_types = json::array();
  for (int i = 0; i < m.layers; ++i)
    layer_types.push_back((i + 1) % m.interval == 0 ? "full_attention" : "linear_attention");
  json text = {
      {"model_type", type + "_text"},
      {"vocab_size", m.vocab},
      {"hidden_size", m.hidden},
      {"num_hidden_layers", m.layers},
      {"layer_types", layer_types},
      {"full_attention_interval", m.interval},
      {"num_attention_heads", m.heads},
      {"num_key_value_heads", m.kv_heads},
      {"head_dim", m.head_dim},
      {"linear_num_key_heads", m.linear_key_heads},
      {"linear_num_value_heads", m.linear_value_heads},
      {"linear_key_head_dim", m.linear_key_dim},
      {"linear_value_head_dim", m.linear_value_dim},
      {"linear_conv_kernel_dim", m.taps},
      {"rms_norm_eps", 1e-6},
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"attn_output_gate", true},
      {"max_position_embeddings", m.context},
      {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e7}, {"partial_rotary_factor", m.rotary}}}};
  if (m.experts > 0) {
    text["num_experts"] = m.experts;
    text["num_experts_per_tok"] = m.experts_per_token;
    text["moe_intermediate_size"] = m.moe_intermediate;
    text["shared_expert_intermediate_size"] = m.shared_intermediate;
  } else {
    text["intermediate_size"] = m.intermediate;
  }
  text["tie_word_embeddings"] = m.tied;
  json config = text_only ? text : json{{"model_type", type}, {"text_config", text}, {"tie_word_embeddings", m.tied}};
  if (m.tokenizer) {
    const json tokenizer = tokenizer_json(m.vocab);
    config["eos_token_id"] = {added_id(tokenizer, "<|im_end|>"), added_id(tokenizer, "<|endoftext|>")};
  } else {
    config["eos_token_id"] = m.vocab - 1;
  }
  if (m.bits != 0) {
    json quantization = {{"bits", m.bits}, {"group_size", 64}, {"mode", "affine"}};
    for (const auto& [module, bits] : m.module_bits)
      quantization[spelled(module, m.names)] = bits == 0 ? json(false) : json{{"bits", bits}, {"group_size", 64}};
    config["quantization"] = quantization;
    config["quantization_config"] = quantization;
  }
  return config.dump(2);
}

std::vector<RawTensor> make_tensors(const TinyModel& model) {
  const ModelConfig config = ModelConfig::parse(config_json(model), "tiny model");
  Random random(model.seed);
  std::vector<RawTensor> tensors;
  const std::vector<ExpectedTensor> expected = expected_tensors(config);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const ExpectedTensor& tensor = expected[i];
    if (ends_with(tensor.name, ".scales") || ends_with(tensor.name, ".biases")) continue;  // written with their weight
    RawTensor raw{spelled(tensor.name, model.names), std::string(name(tensor.dtype)), tensor.shape, {}};
    if (tensor.dtype == DType::u32) {
      raw.bytes.resize(tensor.bytes);
      for (std::byte& byte : raw.bytes) byte = static_cast<std::byte>(random.bits() >> 56);
      const std::vector<std::int64_t>& groups = expected[i + 1].shape;
      const auto bits = static_cast<int>(32 * tensor.shape.back() / (groups.back() * 64));
      const std::string module = tensor.name.substr(0, tensor.name.size() - std::string_view(".weight").size());
      RawTensor scales{spelled(module + ".scales", model.names), "BF16", groups, {}};
      RawTensor biases{spelled(module + ".biases", model.names), "BF16", groups, {}};
      for (std::size_t g = 0; g < count_of(groups); ++g)
        append_group(scales.bytes, biases.bytes, bits, static_cast<double>(groups.back() * 64), random);
      tensors.push_back(std::move(raw));
      tensors.push_back(std::move(scales));
      tensors.push_back(std::move(biases));
      continue;
    }
    if (tensor.dtype == DType::bf16) raw.dtype = model.plain_dtype;
    for (std::size_t e = 0; e < count_of(tensor.shape); ++e) append(raw.bytes, raw.dtype, plain_value(tensor, random));
    tensors.push_back(std::move(raw));
  }
  if (model.extra_tensors)
    for (const char* extra : {"vision_tower.blocks.0.attn.qkv.weight", "model.visual.patch_embed.proj.weight",
                              "mtp.layers.0.mlp.gate.weight", "language_model.mtp.fc.weight"})
      tensors.push_back({extra, "BF16", {3, 5}, std::vector<std::byte>(30)});
  return tensors;
}

void write_raw_safetensors(const fs::path& path, std::uint64_t header_length, const std::string& header,
                           std::size_t data_bytes) {
  std::ofstream out = opened(path);
  out << little_endian(header_length) << header << std::string(data_bytes, '\0');
}

void write_safetensors(const fs::path& path, std::span<const RawTensor> tensors, bool odd_offsets) {
  json header = {{"__metadata__", {{"format", "mlx"}}}};
  std::size_t offset = 0;
  for (const RawTensor& tensor : tensors) {
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump();
  while (text.size() % 8 != (odd_offsets ? 5u : 0u)) text += ' ';
  std::ofstream out = opened(path);
  out << little_endian(text.size()) << text;
  for (const RawTensor& tensor : tensors) write_bytes(out, tensor.bytes);
}

std::vector<std::string> write_shards(const fs::path& directory, std::span<const RawTensor> tensors, int shards,
                                      bool odd_offsets) {
  if (shards <= 1) {
    write_safetensors(directory / "model.safetensors", tensors, odd_offsets);
    return {"model.safetensors"};
  }
  std::vector<std::string> names;
  json map = json::object();
  std::size_t total = 0;
  for (int shard = 0; shard < shards; ++shard) {
    names.push_back(fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards));
    const std::size_t begin = tensors.size() * static_cast<std::size_t>(shard) / static_cast<std::size_t>(shards);
    const std::size_t end = tensors.size() * static_cast<std::size_t>(shard + 1) / static_cast<std::size_t>(shards);
    write_safetensors(directory / names.back(), tensors.subspan(begin, end - begin), odd_offsets);
    for (std::size_t i = begin; i < end; ++i) {
      map[tensors[i].name] = names.back();
      total += tensors[i].bytes.size();
    }
  }
  write_file(directory / "model.safetensors.index.json",
             json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(2));
  return names;
}

fs::path write_checkpoint(const TinyModel& model, const fs::path& directory) {
  fs::create_directories(directory);
  write_file(directory / "config.json", config_json(model));
  write_shards(directory, make_tensors(model), model.shards, model.odd_offsets);
  if (model.tokenizer) {
    const fs::path pocket = fs::path(test::source_dir()) / "models" / "pocket";
    write_file(directory / "tokenizer.json", tokenizer_json(model.vocab).dump());
    for (const char* file : {"tokenizer_config.json", "chat_template.jinja"})
      fs::copy_file(pocket / file, directory / file, fs::copy_options::overwrite_existing);
  }
  return directory;
}

}  // namespace tqkv::test
