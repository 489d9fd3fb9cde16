#include "tqkv/model_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "loaders/json.h"
#include "loaders/tensor_names.h"
#include "model/config_keys.h"
#include "model/config_reader.h"
#include "model/quantization.h"
#include "model/rope.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using nlohmann::json;

// Bounds far above any model of this architecture: no product of two or three of these overflows 64 bits, and none of
// the derived widths (conv_dim and its like) overflows an int.
constexpr int most_layers = 1024, most_heads = 1024, most_head_dim = 1024, most_experts = 4096, most_width = 1 << 18;
constexpr int most_vocab = 1 << 22, most_taps = 16;

struct Architecture {
  std::string model_type;  // without "_text"
  const json* text;        // the object with the sizes
};

constexpr const char* supported = "tqkv runs qwen3_5_moe and qwen3_5 (Qwen3.5 and Qwen3.6)";

Architecture architecture_of(const ConfigReader& top, const json& document) {
  const std::string type = top.string_or("model_type", "");
  if (type.empty()) top.fail(fmt::format("model_type is missing; {}", supported));
  if (type == "qwen3_5_moe_text" || type == "qwen3_5_text") return {type.substr(0, type.size() - 5), &document};
  if (type != "qwen3_5_moe" && type != "qwen3_5")
    top.fail(fmt::format("the architecture is \"{}\", which is not supported; {}", shown(type), supported));
  const json* text = top.find("text_config");
  if (!text) return {type, &document};
  if (!text->is_object()) top.fail("text_config is not an object");
  const std::string text_type =
      ConfigReader(*text, top.where() + ": text_config").string_or("model_type", type.c_str());
  if (text_type != type && text_type != type + "_text")
    top.fail(fmt::format("text_config.model_type is \"{}\" inside \"{}\"; {}", shown(text_type), type, supported));
  return {type, text};
}

std::vector<LayerKind> layers_of(const ConfigReader& text) {
  const int count = text.integer("num_hidden_layers", 1, most_layers);
  const json* types = text.find("layer_types");
  const json* interval = text.find("full_attention_interval");
  std::vector<LayerKind> layers;
  if (types) {
    if (!types->is_array() || types->size() != static_cast<std::size_t>(count))
      text.fail(fmt::format("layer_types has {} entries, but num_hidden_layers is {}",
                            types->is_array() ? types->size() : 0, count));
    for (const json& type : *types) {
      if (type == "full_attention") {
        layers.push_back(LayerKind::full_attention);
      } else if (type == "linear_attention") {
        layers.push_back(LayerKind::linear_attention);
      } else {
        text.fail(fmt::format("layer_types has {}, expected linear_attention or full_attention", shown(type.dump())));
      }
    }
  }
  if (!types && !interval) text.fail("layer_types and full_attention_interval are both missing");
  if (interval) {
    const int every = text.integer("full_attention_interval", 1, most_layers);
    for (int i = 0; i < count; ++i) {
      const LayerKind kind = (i + 1) % every == 0 ? LayerKind::full_attention : LayerKind::linear_attention;
      if (!types) layers.push_back(kind);
      if (layers[static_cast<std::size_t>(i)] != kind)
        text.fail(fmt::format("layer_types and full_attention_interval {} disagree about layer {}", every, i));
    }
  }
  return layers;
}

std::vector<int> eos_of(const ConfigReader& top, const ConfigReader& text, int vocab) {
  const bool outer = top.find("eos_token_id") != nullptr;
  const ConfigReader& reader = outer ? top : text;
  const json* value = reader.find("eos_token_id");
  std::vector<int> ids;
  if (!value) return ids;
  if (!value->is_array()) return {reader.checked_integer(*value, "eos_token_id", 0, vocab - 1)};
  if (value->size() > 64) reader.fail("eos_token_id lists more than 64 ids");
  for (const json& id : *value) ids.push_back(reader.checked_integer(id, "eos_token_id", 0, vocab - 1));
  return ids;
}

void check_multiple(const ConfigReader& text, const char* name, int value, const char* of_name, int of) {
  if (value % of != 0) text.fail(fmt::format("{} is {}, expected a multiple of {} ({})", name, value, of_name, of));
}

}  // namespace

int ModelConfig::attention_layers() const {
  return static_cast<int>(std::count(layers.begin(), layers.end(), LayerKind::full_attention));
}

int ModelConfig::linear_layers() const {
  return num_layers() - attention_layers();
}

ModelConfig ModelConfig::parse(std::string_view json_text, std::string_view where) {
  const json document = parse_json(json_text, where, ErrorKind::config);
  const ConfigReader top(document, std::string(where));
  const Architecture architecture = architecture_of(top, document);
  const ConfigReader text(*architecture.text,
                          architecture.text == &document ? top.where() : top.where() + ": text_config");
  check_text_keys(text);
  if (architecture.text != &document) check_top_keys(top, *architecture.text);

  ModelConfig config;
  config.model_type = architecture.model_type;
  config.layers = layers_of(text);
  config.vocab_size = text.integer("vocab_size", 1, most_vocab);
  config.hidden_size = text.integer("hidden_size", 1, most_width);
  config.max_position_embeddings = text.integer("max_position_embeddings", 1, most_context);
  const double eps = text.find("rms_norm_eps") ? text.number(*text.find("rms_norm_eps"), "rms_norm_eps") : 1e-6;
  if (!(eps > 0 && eps < 1)) text.fail(fmt::format("rms_norm_eps is {}, expected a small positive number", eps));
  config.rms_norm_eps = static_cast<float>(eps);
  config.tie_word_embeddings = text.boolean_or("tie_word_embeddings", top.boolean_or("tie_word_embeddings", false));
  config.eos_token_ids = eos_of(top, text, config.vocab_size);

  config.num_attention_heads = text.integer("num_attention_heads", 1, most_heads);
  config.num_key_value_heads = text.integer("num_key_value_heads", 1, most_heads);
  config.head_dim = text.integer("head_dim", 2, most_head_dim);
  check_multiple(text, "num_attention_heads", config.num_attention_heads, "num_key_value_heads",
                 config.num_key_value_heads);
  read_rope(text, config);

  config.linear_num_key_heads = text.integer("linear_num_key_heads", 1, most_heads);
  config.linear_num_value_heads = text.integer("linear_num_value_heads", 1, most_heads);
  config.linear_key_head_dim = text.integer("linear_key_head_dim", 1, most_head_dim);
  config.linear_value_head_dim = text.integer("linear_value_head_dim", 1, most_head_dim);
  config.linear_conv_kernel_dim = text.integer("linear_conv_kernel_dim", 1, most_taps);
  check_multiple(text, "linear_num_value_heads", config.linear_num_value_heads, "linear_num_key_heads",
                 config.linear_num_key_heads);

  if (config.model_type == "qwen3_5_moe") {
    config.num_experts = text.integer("num_experts", 1, most_experts);
    config.num_experts_per_tok = text.integer("num_experts_per_tok", 1, config.num_experts);
    config.moe_intermediate_size = text.integer("moe_intermediate_size", 1, most_width);
    config.shared_expert_intermediate_size = text.integer("shared_expert_intermediate_size", 1, most_width);
    config.norm_topk_prob = text.boolean_or("norm_topk_prob", true);
  } else {
    if (text.integer_or("num_experts", 0, most_experts, 0) != 0)
      text.fail(fmt::format("num_experts is {} in a dense model (qwen3_5)", text.need("num_experts").dump()));
    config.intermediate_size = text.integer("intermediate_size", 1, most_width);
  }
  read_quantization(document, top.where(), config);
  return config;
}

}  // namespace tqkv
