#include "model/config_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "loaders/hub.h"

namespace tqkv {
namespace {

using nlohmann::json;
using Keys = std::span<const std::string_view>;

// Used: of the top, of the text, of rotary embeddings, of quantization.
constexpr std::string_view top_used[] = {"model_type",          "text_config",  "eos_token_id",
                                         "tie_word_embeddings", "quantization", "quantization_config"};
constexpr std::string_view text_used[] = {"model_type",
                                          "vocab_size",
                                          "hidden_size",
                                          "num_hidden_layers",
                                          "layer_types",
                                          "full_attention_interval",
                                          "rms_norm_eps",
                                          "tie_word_embeddings",
                                          "max_position_embeddings",
                                          "original_max_position_embeddings",
                                          "eos_token_id",
                                          "num_attention_heads",
                                          "num_key_value_heads",
                                          "head_dim",
                                          "partial_rotary_factor",
                                          "rope_theta",
                                          "rope_parameters",
                                          "rope_scaling",
                                          "linear_num_key_heads",
                                          "linear_num_value_heads",
                                          "linear_key_head_dim",
                                          "linear_value_head_dim",
                                          "linear_conv_kernel_dim",
                                          "num_experts",
                                          "num_experts_per_tok",
                                          "moe_intermediate_size",
                                          "shared_expert_intermediate_size",
                                          "norm_topk_prob",
                                          "intermediate_size",
                                          "quantization",
                                          "quantization_config"};
constexpr std::string_view rope_used[] = {"rope_type",        "type",
                                          "rope_theta",       "partial_rotary_factor",
                                          "factor",           "original_max_position_embeddings",
                                          "beta_fast",        "beta_slow",
                                          "attention_factor", "mscale",
                                          "mscale_all_dim",   "truncate"};
constexpr std::string_view quantization_used[] = {"bits", "group_size", "mode"};

// Mean nothing for the answers of a text model: training, other parts of the model, who wrote the file, defaults of
// generation (those are in generation_config.json), how other programs run it.
constexpr std::string_view meaningless[] = {
    // training
    "attention_dropout", "hidden_dropout", "embd_pdrop", "initializer_range", "router_aux_loss_coef",
    "output_router_logits", "router_jitter_noise", "use_return_dict", "is_encoder_decoder", "is_decoder",
    "tie_encoder_decoder", "gradient_checkpointing", "problem_type", "task_specific_params", "id2label", "label2id",
    "finetuning_task", "pretraining_tp", "chunk_size_feed_forward", "cross_attention_hidden_size",
    "add_cross_attention", "pruned_heads", "torchscript", "use_bfloat16", "tf_legacy_loss",
    // other parts: pictures, sound, prediction of several tokens
    "vision_config", "audio_config", "vision_start_token_id", "vision_end_token_id", "vision_token_id",
    "image_token_id", "video_token_id", "image_token_index", "video_token_index", "audio_token_id",
    "audio_start_token_id", "audio_end_token_id", "language_model_only", "num_nextn_predict_layers",
    // the file
    "architectures", "transformers_version", "model_name", "name_or_path", "auto_map", "custom_pipelines",
    "tokenizer_class", "torch_dtype", "dtype", "prefix", "license", "mlx_lm_version",
    // generation and tokens
    "bos_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id", "begin_suppress_tokens", "suppress_tokens", "bad_words_ids", "do_sample", "temperature",
    "top_k", "top_p", "typical_p", "min_length", "max_length", "num_beams", "num_beam_groups", "diversity_penalty",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "num_return_sequences", "early_stopping", "remove_invalid_values", "exponential_decay_length_penalty",
    "return_dict", "return_dict_in_generate", "output_scores", "output_attentions", "output_hidden_states",
    // how it is run: the state has an option of its own
    "use_cache", "mamba_ssm_dtype", "max_window_layers", "cache_implementation", "attn_implementation",
    // positions of pictures: those of text are equal in all three parts
    "mrope_section", "mrope_interleaved", "use_mrope"};
constexpr std::string_view meaningless_prefixes[] = {"_", "mtp_", "unsloth_", "vision_", "image_", "video_", "audio_"};
// "finetuned" says that a model was trained for its scaling.
constexpr std::string_view rope_meaningless[] = {"mrope_section", "mrope_interleaved", "finetuned"};

/// Of these keys only some values are computed: a JSON list of them.
struct Fixed {
  std::string_view key;
  const char* computed;
};
constexpr Fixed fixed[] = {
    {"hidden_act", R"(["silu", "swish"])"},
    {"hidden_activation", R"(["silu", "swish"])"},
    {"output_gate_type", R"(["swish", "silu"])"},
    {"attn_output_gate", "[true]"},
    {"attention_bias", "[false]"},
    {"attention_out_bias", "[false]"},
    {"qkv_bias", "[false]"},
    {"use_qkv_bias", "[false]"},
    {"mlp_bias", "[false]"},
    {"use_bias", "[false]"},
    {"linear_bias", "[false]"},
    {"lm_head_bias", "[false]"},
    {"use_qk_norm", "[true]"},
    {"qk_norm", "[true]"},
    {"use_sliding_window", "[false]"},
    {"attention_chunk_size", "[]"},
    {"attn_logit_softcapping", "[]"},
    {"final_logit_softcapping", "[]"},
    {"query_pre_attn_scalar", "[]"},
    {"attention_multiplier", "[]"},
    {"attention_scale", "[]"},
    {"embedding_multiplier", "[1]"},
    {"residual_multiplier", "[1]"},
    {"logits_scaling", "[1]"},
    {"logit_scale", "[1]"},
    {"mlp_only_layers", "[[]]"},
    {"decoder_sparse_step", "[1]"},
    {"moe_layer_freq", "[1]"},
    {"first_k_dense_replace", "[0]"},
    {"n_group", "[1]"},
    {"topk_group", "[1]"},
    {"routed_scaling_factor", "[1]"},
    {"scoring_func", R"(["softmax"])"},
    {"rope_interleaved", "[false]"},
    {"rope_traditional", "[false]"},
    {"no_rope_layers", "[[]]"},
};

bool in(Keys keys, std::string_view key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

const Fixed* fixed_key(std::string_view key) {
  const auto found = std::find_if(std::begin(fixed), std::end(fixed), [&](const Fixed& row) { return row.key == key; });
  return found == std::end(fixed) ? nullptr : found;
}

bool means_nothing(std::string_view key) {
  if (in(meaningless, key)) return true;
  return std::any_of(std::begin(meaningless_prefixes), std::end(meaningless_prefixes),
                     [&](std::string_view prefix) { return key.substr(0, prefix.size()) == prefix; });
}

/// Whether a key that is not known is switched off: whatever it is, it changes nothing.
bool off(const json& value) {
  return value.is_null() || value == false || ((value.is_array() || value.is_object()) && value.empty());
}

constexpr const char* ignored_keys = "TQKV_IGNORE_CONFIG_KEYS";

/// Whether the user vouches for `key`.
bool vouched_for(std::string_view key) {
  const std::string list = "," + environment(ignored_keys) + ",";
  return list.find("," + std::string(key) + ",") != std::string::npos;
}

[[noreturn]] void refuse_unknown(const ConfigReader& reader, const std::string& key, const json& value) {
  reader.fail(
      fmt::format("{} is {}, but tqkv does not know this key, and it may change what the model computes; set "
                  "{}={} if it changes nothing",
                  shown(key), shown(value.dump()), ignored_keys, shown(key)));
}

void check_fixed(const ConfigReader& reader, const Fixed& row, const json& value) {
  const json computed = json::parse(row.computed);
  if (std::find(computed.begin(), computed.end(), value) != computed.end()) return;
  std::string expected;
  for (const json& one : computed) expected += (expected.empty() ? "" : " or ") + one.dump();
  reader.fail(fmt::format("{} is {}, {} is supported", row.key, shown(value.dump()),
                          expected.empty() ? "only a model without it" : "only " + expected));
}

/// A window is not computed; how wide it would be matters only where it is not switched off.
void check_window(const ConfigReader& text) {
  const json* window = text.find("sliding_window");
  if (!window || *window == 0 || !text.boolean_or("use_sliding_window", true)) return;
  text.fail(
      fmt::format("sliding_window is {}, only attention to the whole context is supported", shown(window->dump())));
}

/// Everything but what `used` names.
void check_others(const ConfigReader& reader, const std::string& key, const json& value) {
  if (value.is_null() || means_nothing(key) || key == "sliding_window") return;
  if (const Fixed* row = fixed_key(key)) return check_fixed(reader, *row, value);
  if (!off(value) && !vouched_for(key)) refuse_unknown(reader, key, value);
}

}  // namespace

void check_text_keys(const ConfigReader& text) {
  for (const auto& [key, value] : text.object().items())
    if (!in(text_used, key)) check_others(text, key, value);
  check_window(text);
}

void check_top_keys(const ConfigReader& top, const json& text) {
  for (const auto& [key, value] : top.object().items()) {
    if (value.is_null() || in(top_used, key)) continue;
    if (!in(text_used, key)) {
      check_others(top, key, value);
      continue;
    }
    // Programs read this key in text_config alone: at the top it must say the same.
    const auto in_object = [&key = key](const json& object) -> const json* {
      const auto found = object.is_object() ? object.find(key) : object.end();
      return !object.is_object() || found == object.end() || found->is_null() ? nullptr : &*found;
    };
    const json* own = in_object(text);
    if (const auto rope = text.find("rope_parameters"); !own && rope != text.end()) own = in_object(*rope);
    if (own && *own == value) continue;
    if ((key == "rope_scaling" || key == "rope_parameters") && off(value)) continue;
    top.fail(fmt::format("{} is {} next to text_config, {}: move it into text_config", key, shown(value.dump()),
                         own ? "but " + shown(own->dump()) + " inside" : "which does not have it"));
  }
  check_window(top);
}

void check_rope_keys(const ConfigReader& rope) {
  for (const auto& [key, value] : rope.object().items())
    if (!in(rope_used, key) && !in(rope_meaningless, key) && !off(value) && !vouched_for(key))
      refuse_unknown(rope, key, value);
}

void check_quantization_keys(const ConfigReader& entry) {
  for (const auto& [key, value] : entry.object().items())
    if (!in(quantization_used, key) && !off(value) && !vouched_for(key)) refuse_unknown(entry, key, value);
}

}  // namespace tqkv
