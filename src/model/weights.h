// Weights: every tensor of a checkpoint under the name it has in the forward pass, bound to its bytes in the mapped
// shards. Nothing is copied. Shapes are [out, in] logical, as docs/architecture.md writes them.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

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

/// Finds the tensors of `config` in `checkpoint`, which must hold no other, and checks dtype and shape. Throws
/// Error(checkpoint) that names those that do not fit; Error(config) when the bits of `config` contradict the shapes.
Weights bind_weights(const Checkpoint& checkpoint, const ModelConfig& config);

/// A tensor that a checkpoint of `config` holds, with its bytes as stored.
struct ExpectedTensor {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::string kind;  // "experts", "attention", "linear attention", "shared expert", "router", "mlp", "embedding",
                     // "head", "norms"
  std::uint64_t bytes = 0;
};
/// The tensors that a 4-bit MLX checkpoint of `config` holds: enough to count its bytes without its weights.
std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config);

}  // namespace tqkv
