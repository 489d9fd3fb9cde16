#include "runtime/mlx/weights.h"

#include <cmath>
#include <cstring>

#include "base/file.h"

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
  let_go({data, bytes});
  return made;
}

/// As `type`, computed at once, so that no second copy lives on.
mx::array as(mx::Dtype type, const mx::array& values) {
  mx::array made = mx::astype(values, type);
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

class Copier {
 public:
  Copier(const ModelConfig& config, mx::Dtype type, const CopyProgress& progress)
      : config_(config), type_(type), progress_(progress) {}
  Arrays copy(const Weights& weights) const;

 private:
  Linear linear(const Matrix& matrix) const;
  /// Of the stream.
  mx::array norm(const Vector& vector) const { return as(type_, floats(vector)); }
  MlpArrays mlp_arrays(const MlpWeights& weights) const;
  AttentionArrays attention_arrays(const AttentionWeights& weights) const;
  DeltaArrays delta_arrays(const DeltaWeights& weights) const;

  const ModelConfig& config_;
  mx::Dtype type_;
  const CopyProgress& progress_;
};

Linear Copier::linear(const Matrix& matrix) const {
  const auto rows = static_cast<std::size_t>(matrix.count) * static_cast<std::size_t>(matrix.out);
  const auto shape = [&](int columns) {
    return matrix.count > 1 ? mx::Shape{matrix.count, matrix.out, columns} : mx::Shape{matrix.out, columns};
  };
  const std::size_t bytes = rows * matrix.row_bytes();
  if (!matrix.quantized())
    return {as(type_, bytes_as(matrix.weight, bytes, shape(matrix.in), dtype_of(matrix.storage))), {}, {}};
  const int bits = matrix.storage == Matrix::Storage::q4 ? 4 : 8;
  const int groups = matrix.in / Matrix::group;
  const auto side = [&](const std::byte* data) {
    return as(type_, bytes_as(data, rows * static_cast<std::size_t>(groups) * 2, shape(groups), mx::bfloat16));
  };
  return {bytes_as(matrix.weight, bytes, shape(matrix.in * bits / 32), mx::uint32), side(matrix.scales),
          side(matrix.biases), bits};
}

MlpArrays Copier::mlp_arrays(const MlpWeights& weights) const {
  return {linear(weights.gate_proj), linear(weights.up_proj), linear(weights.down_proj)};
}

AttentionArrays Copier::attention_arrays(const AttentionWeights& weights) const {
  return {linear(weights.q_proj), linear(weights.k_proj), linear(weights.v_proj),
          linear(weights.o_proj), norm(weights.q_norm),   norm(weights.k_norm)};
}

DeltaArrays Copier::delta_arrays(const DeltaWeights& weights) const {
  std::vector<float> decay = weights.A_log.to_f32();
  for (float& value : decay) value = -std::exp(value);
  const int kernel = config_.linear_conv_kernel_dim, heads = static_cast<int>(decay.size());
  mx::array taps = mx::contiguous(mx::transpose(mx::reshape(floats(weights.conv1d), {config_.conv_dim(), kernel})));
  taps.eval();
  return {linear(weights.in_proj_qkv),       linear(weights.in_proj_z), linear(weights.in_proj_b),
          linear(weights.in_proj_a),         linear(weights.out_proj),  std::move(taps),
          floats(std::move(decay), {heads}), floats(weights.dt_bias),   floats(weights.norm)};
}

Arrays Copier::copy(const Weights& weights) const {
  const Linear embed_tokens = linear(weights.embed_tokens);
  Arrays arrays{type_,
                embed_tokens,
                config_.tie_word_embeddings ? embed_tokens : linear(weights.lm_head),
                norm(weights.norm),
                {}};
  for (const LayerWeights& layer : weights.layers) {
    LayerArrays own{norm(layer.input_layernorm), norm(layer.post_attention_layernorm), {}, {}, {}, {}};
    if (layer.kind == LayerKind::full_attention)
      own.attention = attention_arrays(layer.attention);
    else
      own.delta = delta_arrays(layer.delta);
    if (config_.moe())
      own.experts = ExpertArrays{linear(layer.router), mlp_arrays(layer.experts), mlp_arrays(layer.shared_expert),
                                 linear(layer.shared_expert_gate)};
    else
      own.mlp = mlp_arrays(layer.mlp);
    arrays.layers.push_back(std::move(own));
    if (progress_) progress_(static_cast<int>(arrays.layers.size()), static_cast<int>(weights.layers.size()));
  }
  return arrays;
}

}  // namespace

mx::array Linear::operator()(const mx::array& any) const {
  const mx::array x = mx::astype(any, bits == 0 ? weight.dtype() : scales->dtype());
  if (bits == 0) return mx::matmul(x, mx::transpose(weight));
  return mx::quantized_matmul(x, weight, *scales, biases, true, Matrix::group, bits);
}

mx::array Linear::of_each(const mx::array& any, const mx::array& index, bool sorted) const {
  const mx::array rows =
      mx::expand_dims(mx::astype(any, bits == 0 ? weight.dtype() : scales->dtype()), 1);  // [pairs, 1, in]
  const mx::array out = bits == 0 ? mx::gather_mm(rows, mx::swapaxes(weight, -1, -2), std::nullopt, index, sorted)
                                  : mx::gather_qmm(rows, weight, *scales, biases, std::nullopt, index, true,
                                                   Matrix::group, bits, "affine", std::nullopt, sorted);
  return mx::squeeze(out, 1);
}

mx::array Linear::rows(const mx::array& ids) const {
  mx::array words = mx::take(weight, ids, 0);
  if (bits == 0) return words;
  return mx::dequantize(words, mx::take(*scales, ids, 0), mx::take(*biases, ids, 0), Matrix::group, bits);
}

Arrays copy_weights(const ModelConfig& config, const Weights& weights, mx::Dtype type, const CopyProgress& progress) {
  return Copier(config, type, progress).copy(weights);
}

}  // namespace tqkv::mlx
