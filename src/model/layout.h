// Where every tensor of the architecture stands: the one list of names and shapes. bind_weights() and
// expected_tensors() walk it with visitors of their own.
#pragma once
#include <fmt/format.h>

#include <string>

#include "model/weights.h"

namespace tqkv {

/// Visitor:
///   void matrix(Matrix& to, const std::string& module, const char* kind, int out, int in);
///   void experts(Matrix& to, const std::string& module, const char* kind, int count, int out, int in);
///   void vector(Vector& to, const std::string& tensor, const char* kind, Shape shape, DType usual);
/// with Shape = std::vector<std::int64_t>; `usual` is the dtype that MLX writes.
template <class Visitor>
void visit_mlp(const std::string& at, const char* kind, int hidden, int intermediate, MlpWeights& mlp,
               Visitor& visitor) {
  visitor.matrix(mlp.gate_proj, at + "gate_proj", kind, intermediate, hidden);
  visitor.matrix(mlp.up_proj, at + "up_proj", kind, intermediate, hidden);
  visitor.matrix(mlp.down_proj, at + "down_proj", kind, hidden, intermediate);
}

template <class Visitor>
void visit_layer(const ModelConfig& c, int index, LayerWeights& layer, Visitor& visitor) {
  const std::string at = fmt::format("language_model.model.layers.{}.", index);
  const int H = c.hidden_size;
  layer.kind = c.layers[static_cast<std::size_t>(index)];
  visitor.vector(layer.input_layernorm, at + "input_layernorm.weight", "norms", {H}, DType::bf16);
  visitor.vector(layer.post_attention_layernorm, at + "post_attention_layernorm.weight", "norms", {H}, DType::bf16);

  if (layer.kind == LayerKind::full_attention) {
    AttentionWeights& a = layer.attention;
    const std::string self = at + "self_attn.";
    visitor.matrix(a.q_proj, self + "q_proj", "attention", 2 * c.query_dim(), H);
    visitor.matrix(a.k_proj, self + "k_proj", "attention", c.kv_dim(), H);
    visitor.matrix(a.v_proj, self + "v_proj", "attention", c.kv_dim(), H);
    visitor.matrix(a.o_proj, self + "o_proj", "attention", H, c.query_dim());
    visitor.vector(a.q_norm, self + "q_norm.weight", "attention", {c.head_dim}, DType::bf16);
    visitor.vector(a.k_norm, self + "k_norm.weight", "attention", {c.head_dim}, DType::bf16);
  } else {
    DeltaWeights& d = layer.delta;
    const std::string linear = at + "linear_attn.";
    const char* kind = "linear attention";
    const int heads = c.linear_num_value_heads;
    visitor.matrix(d.in_proj_qkv, linear + "in_proj_qkv", kind, c.conv_dim(), H);
    visitor.matrix(d.in_proj_z, linear + "in_proj_z", kind, c.value_dim(), H);
    visitor.matrix(d.in_proj_b, linear + "in_proj_b", kind, heads, H);
    visitor.matrix(d.in_proj_a, linear + "in_proj_a", kind, heads, H);
    visitor.matrix(d.out_proj, linear + "out_proj", kind, H, c.value_dim());
    visitor.vector(d.conv1d, linear + "conv1d.weight", kind, {c.conv_dim(), c.linear_conv_kernel_dim, 1}, DType::bf16);
    visitor.vector(d.A_log, linear + "A_log", kind, {heads}, DType::f32);
    visitor.vector(d.dt_bias, linear + "dt_bias", kind, {heads}, DType::bf16);
    visitor.vector(d.norm, linear + "norm.weight", kind, {c.linear_value_head_dim}, DType::bf16);
  }

  const std::string mlp = at + "mlp.";
  if (!c.moe()) return visit_mlp(mlp, "mlp", H, c.intermediate_size, layer.mlp, visitor);
  const int E = c.num_experts, I = c.moe_intermediate_size;
  visitor.matrix(layer.router, mlp + "gate", "router", E, H);
  visitor.experts(layer.experts.gate_proj, mlp + "switch_mlp.gate_proj", "experts", E, I, H);
  visitor.experts(layer.experts.up_proj, mlp + "switch_mlp.up_proj", "experts", E, I, H);
  visitor.experts(layer.experts.down_proj, mlp + "switch_mlp.down_proj", "experts", E, H, I);
  visit_mlp(mlp + "shared_expert.", "shared expert", H, c.shared_expert_intermediate_size, layer.shared_expert,
            visitor);
  visitor.matrix(layer.shared_expert_gate, mlp + "shared_expert_gate", "shared expert", 1, H);
}

template <class Visitor>
void visit_weights(const ModelConfig& c, Weights& weights, Visitor& visitor) {
  visitor.matrix(weights.embed_tokens, "language_model.model.embed_tokens", "embedding", c.vocab_size, c.hidden_size);
  if (!c.tie_word_embeddings)
    visitor.matrix(weights.lm_head, "language_model.lm_head", "head", c.vocab_size, c.hidden_size);
  visitor.vector(weights.norm, "language_model.model.norm.weight", "norms", {c.hidden_size}, DType::bf16);
  weights.layers.resize(c.layers.size());
  for (int i = 0; i < c.num_layers(); ++i) visit_layer(c, i, weights.layers[static_cast<std::size_t>(i)], visitor);
}

}  // namespace tqkv
