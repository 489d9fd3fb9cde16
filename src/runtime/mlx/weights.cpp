#include "runtime/mlx/weights.h"

#include <cmath>
#include <cstring>

namespace tqkv::mlx {
namespace {

mx::array floats(std::vector<float> values, mx::Shape shape) {
  return mx::array(values.begin(), std::move(shape), mx::float32);
}

mx::array floats(const Vector& vector) {
  return floats(vector.to_f32(), {vector.size});
}

/// The same bytes: MLX copies what it cannot hold.
mx::array bytes_as(const std::byte* data, std::size_t bytes, mx::Shape shape, mx::Dtype dtype) {
  mx::array made(mx::allocator::malloc(bytes), std::move(shape), dtype);
  std::memcpy(made.data<std::byte>(), data, bytes);
  return made;
}

/// As float32, computed at once, so that no second copy lives on.
mx::array as_floats(const mx::array& values) {
  mx::array made = mx::astype(values, mx::float32);
  made.eval();
  return made;
}

mx::Dtype dtype_of(Matrix::Storage storage) {
  switch (storage) {
    case Matrix::Storage::bf16:
      return mx::bfloat16;
    case Matrix::Storage::f16:
      return mx::float16;
    default:
      return mx::float32;
  }
}

Linear linear(const Matrix& matrix) {
  const auto rows = static_cast<std::size_t>(matrix.count) * static_cast<std::size_t>(matrix.out);
  const auto shape = [&](int columns) {
    return matrix.count > 1 ? mx::Shape{matrix.count, matrix.out, columns} : mx::Shape{matrix.out, columns};
  };
  const std::size_t bytes = rows * matrix.row_bytes();
  if (!matrix.quantized())
    return {as_floats(bytes_as(matrix.weight, bytes, shape(matrix.in), dtype_of(matrix.storage))), {}, {}};
  const int bits = matrix.storage == Matrix::Storage::q4 ? 4 : 8;
  const int groups = matrix.in / Matrix::group;
  const auto side = [&](const std::byte* data) {
    return as_floats(bytes_as(data, rows * static_cast<std::size_t>(groups) * 2, shape(groups), mx::bfloat16));
  };
  return {bytes_as(matrix.weight, bytes, shape(matrix.in * bits / 32), mx::uint32), side(matrix.scales),
          side(matrix.biases), bits};
}

MlpArrays mlp_arrays(const MlpWeights& weights) {
  return {linear(weights.gate_proj), linear(weights.up_proj), linear(weights.down_proj)};
}

AttentionArrays attention_arrays(const AttentionWeights& weights) {
  return {linear(weights.q_proj), linear(weights.k_proj), linear(weights.v_proj),
          linear(weights.o_proj), floats(weights.q_norm), floats(weights.k_norm)};
}

DeltaArrays delta_arrays(const ModelConfig& config, const DeltaWeights& weights) {
  std::vector<float> decay = weights.A_log.to_f32();
  for (float& value : decay) value = -std::exp(value);
  const int kernel = config.linear_conv_kernel_dim, heads = static_cast<int>(decay.size());
  mx::array taps = mx::contiguous(mx::transpose(mx::reshape(floats(weights.conv1d), {config.conv_dim(), kernel})));
  taps.eval();
  return {linear(weights.in_proj_qkv),       linear(weights.in_proj_z), linear(weights.in_proj_b),
          linear(weights.in_proj_a),         linear(weights.out_proj),  std::move(taps),
          floats(std::move(decay), {heads}), floats(weights.dt_bias),   floats(weights.norm)};
}

}  // namespace

mx::array Linear::operator()(const mx::array& x) const {
  if (bits == 0) return mx::matmul(x, mx::transpose(weight));
  return mx::quantized_matmul(x, weight, *scales, biases, true, Matrix::group, bits);
}

mx::array Linear::of_each(const mx::array& x, const mx::array& index, bool sorted) const {
  const mx::array rows = mx::expand_dims(x, 1);  // [pairs, 1, in]
  const mx::array out = bits == 0 ? mx::gather_mm(rows, mx::swapaxes(weight, -1, -2), std::nullopt, index, sorted)
                                  : mx::gather_qmm(rows, weight, *scales, biases, std::nullopt, index, true,
                                                   Matrix::group, bits, "affine", std::nullopt, sorted);
  return mx::squeeze(out, 1);
}

mx::array Linear::rows(const mx::array& ids) const {
  const mx::array words = mx::take(weight, ids, 0);
  if (bits == 0) return words;
  return mx::dequantize(words, mx::take(*scales, ids, 0), mx::take(*biases, ids, 0), Matrix::group, bits);
}

Arrays copy_weights(const ModelConfig& config, const Weights& weights) {
  Arrays arrays{linear(weights.embed_tokens), linear(weights.embed_tokens), floats(weights.norm), {}};
  arrays.lm_head = config.tie_word_embeddings ? arrays.embed_tokens : linear(weights.lm_head);
  for (const LayerWeights& layer : weights.layers) {
    LayerArrays own{floats(layer.input_layernorm), floats(layer.post_attention_layernorm), {}, {}, {}, {}};
    if (layer.kind == LayerKind::full_attention)
      own.attention = attention_arrays(layer.attention);
    else
      own.delta = delta_arrays(config, layer.delta);
    if (config.moe())
      own.experts = ExpertArrays{linear(layer.router), mlp_arrays(layer.experts), mlp_arrays(layer.shared_expert),
                                 linear(layer.shared_expert_gate)};
    else
      own.mlp = mlp_arrays(layer.mlp);
    arrays.layers.push_back(std::move(own));
  }
  return arrays;
}

}  // namespace tqkv::mlx
