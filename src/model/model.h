// The model in one view: its sizes, its weights and what a pass over tokens computes, each with its shape.
//
//   Config    ModelConfig in tqkv/model_config.h, where the names of sizes come from
//   Weights   below: every tensor of a checkpoint under the name that it has in the forward pass
//   RunState  below: what one pass computes. What a session keeps between passes is at its end.
//
// docs/architecture.md has the formulas between them, src/runtime/cpu/forward.cpp is the pass. Shapes are [out, in] for
// matrices and [tokens, channels] for activations; H = hidden_size, I = the intermediate size of an MLP or expert.
#pragma once
#include <cstddef>
#include <vector>

#include "model/rows.h"
#include "tqkv/checkpoint.h"
#include "tqkv/model_config.h"

namespace tqkv {

/// A linear map [out, in], or `count` of them one behind the other (experts). Pointers may have any alignment.
struct Matrix {
  enum class Storage { q4, q8, bf16, f16, f32 };  // q4, q8: MLX affine, group 64, bf16 scale and bias
  Storage storage = Storage::q4;
  int count = 1;
  int out = 0, in = 0;
  const std::byte* weight =
      nullptr;  // q4 [count, out, in/2] bytes, q8 [count, out, in] bytes, else [count, out, in] elements
  const std::byte* scales = nullptr;  // bf16 [count, out, in/64]
  const std::byte* biases = nullptr;  // bf16 [count, out, in/64]

  static constexpr int group = 64;
  bool quantized() const { return storage == Storage::q4 || storage == Storage::q8; }
  std::size_t row_bytes() const;           // of `weight`
  Matrix expert(int index) const;          // one of `count`
  Matrix rows(int first, int size) const;  // `size` rows of a single matrix
};

/// A vector of BF16, F16 or F32 elements; read with element(): any alignment.
struct Vector {
  DType dtype = DType::bf16;
  int size = 0;
  const std::byte* data = nullptr;
  float element(int index) const;
  std::vector<float> to_f32() const;
};

struct AttentionWeights {  // full attention
  Matrix q_proj;           // [2 * query_dim, H]: per head head_dim of query, then head_dim of gate
  Matrix k_proj, v_proj;   // [kv_dim, H]
  Matrix o_proj;           // [H, query_dim]
  Vector q_norm, k_norm;   // [head_dim]
};

struct DeltaWeights {           // gated delta net
  Matrix in_proj_qkv;           // [conv_dim, H]: q, k, v, each head-major
  Matrix in_proj_z;             // [value_dim, H]
  Matrix in_proj_b, in_proj_a;  // [value heads, H]
  Matrix out_proj;              // [H, value_dim]
  Vector conv1d;                // [conv_dim * kernel]: channel-major, the last tap multiplies the current token
  Vector A_log, dt_bias;        // [value heads]
  Vector norm;                  // [linear_value_head_dim]
};

struct MlpWeights {           // SwiGLU
  Matrix gate_proj, up_proj;  // [intermediate, H], or [experts][intermediate, H]
  Matrix down_proj;           // [H, intermediate]
};

struct LayerWeights {
  LayerKind kind = LayerKind::linear_attention;
  Vector input_layernorm, post_attention_layernorm;  // [H]
  AttentionWeights attention;                        // when kind is full_attention
  DeltaWeights delta;                                // when kind is linear_attention
  MlpWeights mlp;                                    // dense models
  Matrix router;                                     // mlp.gate [experts, H]; mixture-of-experts models from here on
  MlpWeights experts;                                // mlp.switch_mlp
  MlpWeights shared_expert;
  Matrix shared_expert_gate;  // [1, H]
};

struct Weights {
  Matrix embed_tokens;  // [vocab, H]
  Matrix lm_head;       // [vocab, H]; embed_tokens when tied
  Vector norm;          // [H], final
  std::vector<LayerWeights> layers;
};

/// What one pass over T tokens computes. P = T * num_experts_per_tok pairs of a token and an expert that serves it; T
/// in a dense model. A device lays it out in memory of its own (cpu/workspace.h).
struct RunState {
  // Through all layers:
  Rows<float> hidden;        // [T, H] the residual stream
  Rows<float> normed;        // [T, H] what a mixer or an MLP reads
  Rows<float> mixed;         // [T, H] what it adds to the residual stream
  Rows<float> cosine, sine;  // [T, rotary_dim / 2]

  // Full attention:
  Rows<float> query_gate;  // [T, heads * 2 * head_dim]: per head its query, then its gate
  Rows<float> query;       // [T, query_dim]; the output of attention afterwards
  Rows<float> key, value;  // [T, kv_dim]

  // Gated delta net:
  Rows<float> conv_in;    // [kernel - 1 + T, conv_dim]: the past, then the tokens
  Rows<float> conv_out;   // [T, conv_dim]: q, k, v, each head-major
  Rows<float> z;          // [T, value_dim]
  Rows<float> a, b;       // [T, value heads]; log g and beta afterwards
  Rows<float> delta_out;  // [T, value_dim]

  // MLP:
  Rows<float> gate, up;  // [P, I]; silu(gate) * up afterwards in `gate`

  // Experts:
  Rows<float> router;                  // [T, experts]
  Rows<int> chosen;                    // [T, num_experts_per_tok]
  Rows<float> chosen_weight;           // [T, num_experts_per_tok]
  Rows<float> expert_out;              // [P, H]
  Rows<float> shared_factor;           // [T, 1]
  Rows<float> shared_gate, shared_up;  // [T, I of the shared expert]
};

// A session keeps (cpu/state.h), for each layer:
//   full attention    keys and values [tokens, kv heads, head_dim] in pages, as KvFormat stores them
//   gated delta net   the state S [value heads, linear_value_head_dim, linear_key_head_dim], and the last rows of
//                     conv_in [kernel - 1, conv_dim]
// and the logits [vocab] of its last token.

}  // namespace tqkv
