#include "tqkv/model_config.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "support/checkpoint_writer.h"
#include "support/environment.h"
#include "support/failure.h"
#include "support/places.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

ModelConfig parse(const json& config) {
  return ModelConfig::parse(config.dump(), "config.json");
}

json moe() {
  TinyModel model;
  model.tokenizer = false;
  return json::parse(config_json(model));
}

json dense() {
  TinyModel model;
  model.tokenizer = false;
  model.experts = 0;
  return json::parse(config_json(model));
}

/// The message for `base` with text_config.key set to `value`.
std::string refusal(json base, const char* key, const json& value) {
  base["text_config"][key] = value;
  return failure(ErrorKind::config, [&] { parse(base); });
}

std::string refusal_without(json base, const char* key) {
  base["text_config"].erase(key);
  return failure(ErrorKind::config, [&] { parse(base); });
}

std::string top_refusal(json base, const char* key, const json& value) {
  base[key] = value;
  return failure(ErrorKind::config, [&] { parse(base); });
}

}  // namespace

TEST_CASE("the published config of Qwen3.5-35B-A3B is read") {
  const auto c =
      ModelConfig::parse(read_text(fs::path(test::source_dir()) / "models/configs/qwen3.5-35b-a3b-4bit.json"), "35b");
  CHECK(c.model_type == "qwen3_5_moe");
  CHECK(c.vocab_size == 248320);
  CHECK(c.hidden_size == 2048);
  CHECK(c.num_layers() == 40);
  CHECK(c.attention_layers() == 10);
  CHECK(c.linear_layers() == 30);
  CHECK(c.layers[2] == LayerKind::linear_attention);
  CHECK(c.layers[3] == LayerKind::full_attention);
  CHECK(c.rms_norm_eps == 1e-6f);
  CHECK(!c.tie_word_embeddings);
  CHECK(c.max_position_embeddings == 262144);
  CHECK(c.eos_token_ids == std::vector<int>{248046, 248044});
  CHECK(c.num_attention_heads == 16);
  CHECK(c.num_key_value_heads == 2);
  CHECK(c.head_dim == 256);
  CHECK(c.rotary_dim == 64);
  CHECK(c.rope_theta == 1e7);
  CHECK(c.key_dim() == 2048);
  CHECK(c.value_dim() == 4096);
  CHECK(c.conv_dim() == 8192);
  CHECK(c.query_dim() == 4096);
  CHECK(c.kv_dim() == 512);
  CHECK(c.linear_conv_kernel_dim == 4);
  CHECK(c.moe());
  CHECK(c.num_experts == 256);
  CHECK(c.num_experts_per_tok == 8);
  CHECK(c.moe_intermediate_size == 512);
  CHECK(c.shared_expert_intermediate_size == 512);
  CHECK(c.norm_topk_prob);
  CHECK(c.quantization.bits == 4);
  CHECK(c.quantization.group_size == 64);
  CHECK(c.overrides.empty());
}

TEST_CASE("the pocket config is read with its 8-bit routers") {
  const auto c = ModelConfig::parse(read_text(fs::path(test::source_dir()) / "models/pocket/config.json"), "pocket");
  CHECK(c.num_layers() == 8);
  CHECK(c.attention_layers() == 2);
  CHECK(c.overrides.size() == 16);
  CHECK(c.overrides.at("language_model.model.layers.3.mlp.gate").bits == 8);
}

TEST_CASE("dense models, text-only configs and other head ratios are read") {
  json config = dense();
  auto c = parse(config);
  CHECK(c.model_type == "qwen3_5");
  CHECK(!c.moe());
  CHECK(c.intermediate_size == 192);
  json text = config["text_config"];
  text["model_type"] = "qwen3_5_text";
  CHECK(parse(text).intermediate_size == 192);
  CHECK(parse(text).quantization.bits == 0);
  text["linear_num_value_heads"] = 6;
  CHECK(parse(text).value_dim() == 6 * 64);
  text = moe()["text_config"];
  CHECK(parse(text).model_type == "qwen3_5_moe");
}

TEST_CASE("what a config may leave out has its default") {
  json config = moe();
  json& text = config["text_config"];
  for (const char* key :
       {"rms_norm_eps", "hidden_act", "attention_bias", "attn_output_gate", "layer_types", "tie_word_embeddings"})
    text.erase(key);
  config.erase("tie_word_embeddings");
  config.erase("eos_token_id");
  text["rope_parameters"] = {{"rope_theta", 5000000}};
  text["output_gate_type"] = "swish";
  text["mlp_only_layers"] = json::array();
  text["rope_scaling"] = nullptr;
  const auto c = parse(config);
  CHECK(c.rms_norm_eps == 1e-6f);
  CHECK(!c.tie_word_embeddings);
  CHECK(c.eos_token_ids.empty());
  CHECK(c.rotary_dim == 16);
  CHECK(c.rope_theta == 5e6);
  CHECK(c.norm_topk_prob);
  CHECK(c.attention_layers() == 1);
}

TEST_CASE("values of the text config and of the top are told apart") {
  json config = moe();
  config.erase("eos_token_id");
  config["text_config"]["eos_token_id"] = 7;
  CHECK(parse(config).eos_token_ids == std::vector<int>{7});
  config["eos_token_id"] = {1, 2};
  CHECK(parse(config).eos_token_ids == std::vector<int>{1, 2});
  config["text_config"].erase("tie_word_embeddings");
  config["tie_word_embeddings"] = true;
  CHECK(parse(config).tie_word_embeddings);
  config["text_config"]["tie_word_embeddings"] = false;
  CHECK(!parse(config).tie_word_embeddings);
  config["text_config"]["rope_parameters"].erase("partial_rotary_factor");
  config["text_config"]["partial_rotary_factor"] = 0.5;
  CHECK(parse(config).rotary_dim == 32);
}

TEST_CASE("another architecture is refused with its name and what is supported") {
  const auto message = top_refusal(moe(), "model_type", "llama");
  CHECK(contains(message, "config.json: the architecture is \"llama\", which is not supported"));
  CHECK(contains(message, "qwen3_5_moe and qwen3_5"));
  CHECK(contains(top_refusal(moe(), "model_type", nullptr), "model_type is missing"));
  CHECK(contains(refusal(moe(), "model_type", "qwen3_text"), "text_config.model_type is \"qwen3_text\""));
  CHECK(contains(top_refusal(moe(), "text_config", 3), "text_config is not an object"));
}

TEST_CASE("variants of the architecture that tqkv does not run are refused") {
  CHECK(contains(refusal(moe(), "hidden_act", "gelu"),
                 "config.json: text_config: hidden_act is \"gelu\", only \"silu\" or \"swish\" is supported"));
  CHECK(contains(refusal(moe(), "attention_bias", true), "attention_bias is true, only false is supported"));
  CHECK(contains(refusal(moe(), "attn_output_gate", false), "attn_output_gate is false"));
  CHECK(contains(refusal(moe(), "mlp_only_layers", json::array({0})), "mlp_only_layers is [0], only [] is supported"));
  CHECK(contains(refusal(moe(), "decoder_sparse_step", 2), "decoder_sparse_step is 2"));
  CHECK(contains(refusal(moe(), "output_gate_type", "tanh"), "output_gate_type is \"tanh\""));
  CHECK(contains(refusal(moe(), "use_sliding_window", true), "use_sliding_window is true, only false is supported"));
  CHECK(
      contains(refusal(moe(), "sliding_window", 4096), "sliding_window is 4096, only attention to the whole context"));
  CHECK(contains(refusal(moe(), "final_logit_softcapping", 30.0),
                 "final_logit_softcapping is 30.0, only a model without it is supported"));
  CHECK(contains(refusal(moe(), "routed_scaling_factor", 2.5), "routed_scaling_factor is 2.5, only 1 is supported"));
  CHECK(contains(top_refusal(moe(), "attention_bias", true), "config.json: attention_bias is true"));
}

TEST_CASE("a key that tqkv does not know is refused with its place, and the user may vouch for it") {
  CHECK(contains(refusal(moe(), "attention_temperature", 0.5),
                 "config.json: text_config: attention_temperature is 0.5, but tqkv does not know this key, and it may "
                 "change what the model computes; set TQKV_IGNORE_CONFIG_KEYS=attention_temperature if it changes "
                 "nothing"));
  CHECK(contains(top_refusal(moe(), "compression_config", {{"bits", 2}}), "config.json: compression_config is {"));
  json config = moe();
  config["quantization"]["lm_head"] = {{"bits", 4}, {"group_size", 64}, {"zero_point", 8}};
  config.erase("quantization_config");
  CHECK(contains(failure(ErrorKind::config, [&] { parse(config); }), "lm_head: zero_point is 8, but tqkv does not"));
  config = moe();
  config["text_config"]["attention_temperature"] = 0.5;
  config["text_config"]["rope_parameters"]["wavelength"] = 3;
  const Environment vouched("TQKV_IGNORE_CONFIG_KEYS", "attention_temperature,wavelength");
  CHECK(parse(config).moe());
}

TEST_CASE("keys that switch something off, and keys that say nothing about text, change nothing") {
  json config = moe();
  json& text = config["text_config"];
  const json plain = {{"use_sliding_window", false},  {"sliding_window", 4096},
                      {"max_window_layers", 28},      {"attention_dropout", 0.0},
                      {"mamba_ssm_dtype", "float32"}, {"use_cache", true},
                      {"mtp_num_hidden_layers", 1},   {"unknown_feature", false},
                      {"another", nullptr},           {"bos_token_id", 7},
                      {"pad_token_id", nullptr},      {"router_aux_loss_coef", 0.001},
                      {"output_gate_type", "swish"},  {"partial_rotary_factor", 0.25},
                      {"dtype", "bfloat16"},          {"mlp_only_layers", json::array()}};
  text.update(plain);
  text["rope_parameters"].update({{"mrope_section", {11, 11, 10}}, {"mrope_interleaved", true}});
  config.update({{"architectures", {"Qwen3_5MoeForConditionalGeneration"}},
                 {"transformers_version", "5.2.0"},
                 {"vision_config", {{"depth", 27}, {"hidden_act", "gelu"}}},
                 {"image_token_id", 1},
                 {"language_model_only", false},
                 {"unsloth_fixed", true},
                 {"unsloth_version", "2026.3"},
                 {"_name_or_path", "somewhere"},
                 {"torch_dtype", "bfloat16"},
                 {"hidden_size", text["hidden_size"]},
                 {"rope_scaling", nullptr}});
  CHECK(parse(config).hidden_size == text["hidden_size"]);
}

TEST_CASE("what belongs into text_config and stands beside it is refused unless both say the same") {
  CHECK(contains(top_refusal(moe(), "hidden_size", 4096),
                 "config.json: hidden_size is 4096 next to text_config, but 128 inside: move it into text_config"));
  CHECK(contains(top_refusal(moe(), "norm_topk_prob", false),
                 "norm_topk_prob is false next to text_config, which does not have it"));
  json config = moe();
  config["rope_theta"] = 1e7;  // as in rope_parameters
  CHECK(parse(config).rope_theta == 1e7);
}

TEST_CASE("the configs that are published with the model are read") {
  const char* data = std::getenv("TQKV_TEST_DATA");
  std::vector<fs::path> configs = {fs::path(test::source_dir()) / "models/configs/qwen3.5-35b-a3b-4bit.json",
                                   fs::path(test::source_dir()) / "tests/fuzz/corpus/config/moe.json",
                                   fs::path(test::source_dir()) / "tests/fuzz/corpus/config/dense.json"};
  if (data)
    for (const char* name : {"config.mlx-4bit.json", "config.upstream-bf16.json"})
      configs.push_back(fs::path(data) / name);
  for (const fs::path& path : configs) {
    CAPTURE(path.string());
    CHECK(ModelConfig::parse(read_text(path), path.string()).max_position_embeddings == 262144);
  }
  const auto yarn =
      ModelConfig::parse(read_text(fs::path(test::source_dir()) / "tests/fuzz/corpus/config/yarn.json"), "y");
  CHECK(yarn.max_position_embeddings == 4 * 262144);
}

TEST_CASE("layers must be described once and without contradiction") {
  CHECK(contains(refusal(moe(), "num_hidden_layers", 5), "layer_types has 4 entries, but num_hidden_layers is 5"));
  CHECK(contains(refusal(moe(), "full_attention_interval", 2), "disagree about layer 1"));
  CHECK(contains(refusal(moe(), "layer_types", json::array({"a", "b", "c", "d"})),
                 "expected linear_attention or full_attention"));
  json neither = moe();
  neither["text_config"].erase("layer_types");
  CHECK(contains(refusal_without(neither, "full_attention_interval"), "are both missing"));
}

TEST_CASE("every size must be there, an integer and in range") {
  for (const char* key :
       {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
        "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim",
        "linear_conv_kernel_dim", "max_position_embeddings", "num_experts", "num_experts_per_tok",
        "moe_intermediate_size", "shared_expert_intermediate_size"}) {
    CAPTURE(key);
    CHECK(contains(refusal_without(moe(), key), std::string(key) + " is missing"));
    for (const json& value : {json(0), json(-1), json(1.5), json("4"), json(2147483647), json(4294967297),
                              json(18446744073709551615u), json(1e30), json(true), json::array()})
      CHECK(contains(refusal(moe(), key, value),
                     std::string(key) + " is " + value.dump() + ", expected an integer from"));
  }
  CHECK(contains(refusal_without(dense(), "intermediate_size"), "intermediate_size is missing"));
  CHECK(contains(refusal(moe(), "num_experts_per_tok", 5), "expected an integer from 1 to 4"));
  CHECK(contains(refusal(dense(), "num_experts", 4), "num_experts is 4 in a dense model"));
}

TEST_CASE("heads must divide and rotary channels be even") {
  CHECK(contains(refusal(moe(), "linear_num_value_heads", 3),
                 "linear_num_value_heads is 3, expected a multiple of linear_num_key_heads (2)"));
  CHECK(contains(refusal(moe(), "num_key_value_heads", 3),
                 "num_attention_heads is 4, expected a multiple of num_key_value_heads (3)"));
  const auto rope = [](json factor) {
    return refusal(moe(), "rope_parameters", {{"rope_theta", 1e7}, {"partial_rotary_factor", factor}});
  };
  CHECK(contains(rope(0.24), "gives 15 rotary channels, expected an even number"));
  CHECK(contains(rope(0), "partial_rotary_factor is 0"));
  CHECK(contains(rope(1.5), "partial_rotary_factor is 1.5"));
  CHECK(contains(rope("x"), "expected a number"));
  CHECK(contains(refusal(moe(), "partial_rotary_factor", 0.5),
                 "partial_rotary_factor is 0.5 here and 0.25 in rope_parameters"));
}

TEST_CASE("numbers that make no sense are refused") {
  CHECK(contains(refusal(moe(), "rms_norm_eps", 0), "rms_norm_eps is 0"));
  CHECK(contains(refusal(moe(), "rms_norm_eps", "x"), "rms_norm_eps is \"x\", expected a number"));
  CHECK(contains(refusal(moe(), "rope_parameters", {{"rope_theta", -1}}), "rope_theta is -1"));
  CHECK(contains(refusal(moe(), "rope_parameters", json::object()), "rope_theta is missing"));
  CHECK(contains(top_refusal(moe(), "eos_token_id", 320), "eos_token_id is 320, expected an integer from 0 to 319"));
  CHECK(contains(top_refusal(moe(), "eos_token_id", json::array({1, "x"})), "eos_token_id is \"x\""));
}

TEST_CASE("text that is no config is refused") {
  const auto broken = [](const std::string& text) {
    return failure(ErrorKind::config, [&] { ModelConfig::parse(text, "dir/config.json"); });
  };
  CHECK(contains(broken("{\"model_type\": \"qwen3_5_moe\","),
                 "dir/config.json: is not valid JSON: parse error at line 1"));
  CHECK(contains(broken(""), "is not valid JSON"));
  CHECK(contains(broken("[1]"), "contains array at the top"));
  CHECK(contains(broken(R"({"model_type":"a","model_type":"b"})"), "names \"model_type\" twice"));
  CHECK(contains(broken("{\"a\":" + std::string(100000, '[')), "nested deeper"));
}

TEST_CASE("quantization: overrides of a module, modules that are not quantized, spellings of names") {
  json config = moe();
  config.erase("quantization_config");
  config["quantization"] = {{"bits", 8},
                            {"group_size", 64},
                            {"lm_head", {{"bits", 4}, {"group_size", 64}, {"mode", "affine"}}},
                            {"model.layers.0.mlp.gate", false},
                            {"model.language_model.layers.1.mlp.gate", true},
                            {"vision_tower.blocks.0.attn.qkv", {{"bits", 3}}}};
  auto c = parse(config);
  CHECK(c.quantization.bits == 8);
  CHECK(c.overrides.size() == 3);
  CHECK(c.overrides.at("language_model.lm_head").bits == 4);
  CHECK(c.overrides.at("language_model.model.layers.0.mlp.gate").bits == 0);
  CHECK(c.overrides.at("language_model.model.layers.1.mlp.gate").bits == 8);
  config.erase("quantization");
  CHECK(parse(config).quantization.bits == 0);
  config["quantization_config"] = {{"bits", 4}, {"group_size", 64}};
  CHECK(parse(config).quantization.bits == 4);
}

TEST_CASE("quantization that tqkv does not read is refused by name") {
  const auto quantized = [](const json& value) {
    json config = moe();
    config.erase("quantization_config");
    return top_refusal(config, "quantization", value);
  };
  CHECK(contains(quantized({{"bits", 4}, {"group_size", 32}, {"mode", "mxfp4"}}),
                 "the quantization mode is \"mxfp4\", only \"affine\" is supported"));
  CHECK(contains(quantized({{"bits", 3}, {"group_size", 64}}), "the weights have 3 bits, only 4 and 8 are supported"));
  CHECK(contains(quantized({{"bits", 4}, {"group_size", 32}}), "in groups of 32, only groups of 64"));
  CHECK(contains(quantized({{"bits", 4}}), "has no bits or no group_size"));
  CHECK(contains(quantized({{"bits", -4}, {"group_size", 64}}), "bits is -4"));
  CHECK(contains(quantized({{"bits", 4}, {"group_size", 64}, {"lm_head", {{"bits", 6}}}}),
                 "lm_head: the weights have 6 bits"));
  CHECK(contains(quantized({{"bits", 4}, {"group_size", 64}, {"lm_head", {{"mode", "nvfp4"}}}}),
                 "lm_head: the quantization mode is \"nvfp4\""));
  CHECK(contains(quantized({{"bits", 4}, {"group_size", 64}, {"lm_head", "no"}}),
                 "lm_head: is \"no\", expected an object or false"));
  CHECK(contains(quantized({{"bits", 4}, {"group_size", 64}, {"quant_method", "awq"}}), "quant_method is \"awq\""));
  CHECK(contains(quantized({{"bits", 4}, {"group_size", 64}, {"lm_head", false}, {"language_model.lm_head", false}}),
                 "names a module twice"));
  CHECK(contains(quantized(json::array()), "quantization is not an object"));
  CHECK(contains(top_refusal(moe(), "quantization", {{"bits", 8}, {"group_size", 64}}),
                 "quantization and quantization_config differ"));
}
