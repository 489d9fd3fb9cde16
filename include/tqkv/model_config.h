// ModelConfig: what a Qwen3.5 text model is. Every shape of the program comes from here. Implemented in src/model.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv {

enum class LayerKind { linear_attention, full_attention };

/// How a module's matrix is stored: MLX affine (bits 4 or 8, with bf16 scale and bias a group), or not quantized (bits
/// 0).
struct Quantization {
  int bits = 0;
  int group_size = 64;
};

/// YaRN (arXiv 2309.00071): rotary angles for a context longer than the one that the model was trained on. Names as in
/// `rope_parameters` of transformers.
struct Yarn {
  double factor = 1;            // at least 1
  int original_context = 0;     // original_max_position_embeddings, tokens
  double beta_fast = 32;        // channels that turn more often than this in the original context keep their frequency
  double beta_slow = 1;         // those that turn less often have it divided by `factor`
  bool truncate = true;         // the two bounds are whole channels
  double attention_factor = 1;  // of cosines and sines; what the config leaves out is computed from `factor`
};

/// Names and meaning as in the checkpoint's `text_config`; H = hidden_size.
struct ModelConfig {
  std::string model_type;         // qwen3_5 (dense) or qwen3_5_moe
  int vocab_size = 0;             // rows of the embedding; ids without a token included
  int hidden_size = 0;            // H
  std::vector<LayerKind> layers;  // one entry a layer
  float rms_norm_eps = 1e-6f;
  bool tie_word_embeddings = false;  // logits use the embedding matrix
  int max_position_embeddings = 0;   // tokens of context; with YaRN those of the scaled one
  std::vector<int> eos_token_ids;

  int num_attention_heads = 0;  // full attention: query heads
  int num_key_value_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;  // head_dim * partial_rotary_factor, the first channels of a head
  double rope_theta = 0;
  std::optional<Yarn> yarn;  // of the full-attention layers

  int linear_num_key_heads = 0;    // gated delta net
  int linear_num_value_heads = 0;  // a multiple of the key heads
  int linear_key_head_dim = 0;
  int linear_value_head_dim = 0;
  int linear_conv_kernel_dim = 0;

  int num_experts = 0;  // 0: a dense MLP of intermediate_size
  int num_experts_per_tok = 0;
  int moe_intermediate_size = 0;
  int shared_expert_intermediate_size = 0;
  bool norm_topk_prob = true;
  int intermediate_size = 0;

  Quantization quantization;                      // of every module not named in the overrides
  std::map<std::string, Quantization> overrides;  // canonical module name -> its own

  int num_layers() const { return static_cast<int>(layers.size()); }
  int attention_layers() const;  // layers with a KV cache
  int linear_layers() const;
  bool moe() const { return num_experts > 0; }
  int key_dim() const { return linear_num_key_heads * linear_key_head_dim; }
  int value_dim() const { return linear_num_value_heads * linear_value_head_dim; }
  int conv_dim() const { return 2 * key_dim() + value_dim(); }
  int query_dim() const { return num_attention_heads * head_dim; }
  int kv_dim() const { return num_key_value_heads * head_dim; }

  /// Parses config.json. `where` names the file in messages. Throws Error(config) for anything that is missing, out of
  /// range, contradictory or of another architecture.
  static ModelConfig parse(std::string_view json, std::string_view where);
};

}  // namespace tqkv
