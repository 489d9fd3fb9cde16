// The weights as arrays of MLX, copied tensor by tensor from the mapped checkpoint.
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "model/model.h"
#include "runtime/mlx/mlx.h"

namespace tqkv::mlx {

/// A linear map [out, in], or several of them [count, out, in].
struct Linear {
  mx::array weight;                         // quantized: 32-bit words [.., out, in * bits / 32], else floats
  std::optional<mx::array> scales, biases;  // [.., out, in / 64], quantized ones have both
  int bits = 0;                             // 0: not quantized

  /// x [rows, in] -> [rows, out], in the type of the scales, or of the weights that are not quantized
  mx::array operator()(const mx::array& x) const;
  /// Of several: x [pairs, in], map `index` [pairs] of each -> [pairs, out]. `sorted`: index ascends.
  mx::array of_each(const mx::array& x, const mx::array& index, bool sorted) const;
  /// Rows `ids` [n] of the matrix -> [n, in] floats.
  mx::array rows(const mx::array& ids) const;
};

struct AttentionArrays {
  Linear q_proj, k_proj, v_proj, o_proj;
  mx::array q_norm, k_norm;  // [head_dim]
};

struct DeltaArrays {
  Linear in_proj_qkv, in_proj_z, in_proj_b, in_proj_a, out_proj;
  mx::array conv1d;          // [kernel, conv_dim]
  mx::array negative_exp_A;  // [value heads]
  mx::array dt_bias;         // [value heads]
  mx::array norm;            // [value head_dim]
};

struct MlpArrays {
  Linear gate_proj, up_proj, down_proj;
};

struct ExpertArrays {
  Linear router;
  MlpArrays experts, shared;
  Linear shared_gate;
};

struct LayerArrays {
  mx::array input_layernorm, post_attention_layernorm;  // [H]
  std::optional<AttentionArrays> attention;             // one of the two
  std::optional<DeltaArrays> delta;
  std::optional<MlpArrays> mlp;  // one of the two
  std::optional<ExpertArrays> experts;
};

struct Arrays {
  mx::Dtype type;  // that products take and give: float32 or bfloat16
  Linear embed_tokens, lm_head;
  mx::array norm;  // [H]
  std::vector<LayerArrays> layers;
};

/// Called with the layers that are copied.
using CopyProgress = std::function<void(int done, int total)>;

/// Copies `weights`. What products and norms of the stream read becomes `type`, the rest float32.
Arrays copy_weights(const ModelConfig& config, const Weights& weights, mx::Dtype type,
                    const CopyProgress& progress = {});

}  // namespace tqkv::mlx
