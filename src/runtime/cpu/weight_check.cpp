#include "runtime/cpu/weight_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/float16.h"
#include "tqkv/error.h"

namespace tqkv::cpu {
namespace {

constexpr std::size_t piece_elements = std::size_t{1} << 16;
// A model of which this much has to be read is checked whole when it is loaded.
constexpr std::size_t read_at_load = std::size_t{32} << 20;

// Magnitudes as bits: from them on a number is too large (2^96 in bf16 and f32, infinity in f16).
constexpr std::int16_t beyond_bf16 = 0x6f80, beyond_f16 = 0x7c00, least_normal_bf16 = 0x0080;
constexpr std::int32_t beyond_f32 = 0x6f800000;

/// Whether the magnitudes of all `count` numbers, as bits, are 0 or from `least` to below `beyond`. Signed integers and
/// no branch: compilers make vectors of it for every processor.
template <class Bits>
bool all_within(const std::byte* data, std::size_t count, Bits least, Bits beyond) {
  constexpr std::size_t block = 1024;
  Bits values[block];
  while (count > 0) {
    const std::size_t n = std::min(count, block);
    std::memcpy(values, data, n * sizeof(Bits));
    Bits largest = 0, small = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto value = static_cast<Bits>(values[i] & std::numeric_limits<Bits>::max());
      largest = value > largest ? value : largest;
      small = static_cast<Bits>(small | (value < least ? value : 0));
    }
    if (largest >= beyond || small != 0) return false;
    data += n * sizeof(Bits);
    count -= n;
  }
  return true;
}

std::size_t element_bytes(const Tensor& tensor) {
  return size_of(tensor.dtype);
}

}  // namespace

WeightCheck::WeightCheck(const Checkpoint& checkpoint, const Weights& weights, ThreadPool& pool)
    : checkpoint_(checkpoint), weights_(weights), pool_(pool) {
  for (const LayerWeights& layer : weights.layers)
    if (layer.experts.gate_proj.weight) experts_of_layer_ = static_cast<std::size_t>(layer.experts.gate_proj.count);
  layers_ = std::make_unique<std::atomic<bool>[]>(weights.layers.size());
  experts_ = std::make_unique<std::atomic<bool>[]>(weights.layers.size() * experts_of_layer_);
}

WeightCheck::Kind WeightCheck::plain(const Matrix& matrix) {
  return matrix.storage == Matrix::Storage::bf16  ? Kind::bf16
         : matrix.storage == Matrix::Storage::f16 ? Kind::f16
                                                  : Kind::f32;
}

void WeightCheck::add(std::vector<Piece>& pieces, const std::byte* data, std::size_t count, Kind kind) {
  const std::size_t bytes = kind == Kind::f32 ? 4 : 2;
  for (std::size_t first = 0; first < count; first += piece_elements)
    pieces.push_back({data + first * bytes, std::min(piece_elements, count - first), kind});
}

void WeightCheck::add(std::vector<Piece>& pieces, const Matrix& matrix) {
  if (!matrix.weight) return;
  const auto rows = static_cast<std::size_t>(matrix.count) * static_cast<std::size_t>(matrix.out);
  const auto in = static_cast<std::size_t>(matrix.in);
  if (!matrix.quantized()) return add(pieces, matrix.weight, rows * in, plain(matrix));
  add(pieces, matrix.scales, rows * (in / Matrix::group), Kind::scale_bf16);
  add(pieces, matrix.biases, rows * (in / Matrix::group), Kind::bf16);
}

void WeightCheck::add(std::vector<Piece>& pieces, const Vector& vector) {
  if (!vector.data) return;
  const Kind kind = vector.dtype == DType::f32 ? Kind::f32 : vector.dtype == DType::f16 ? Kind::f16 : Kind::bf16;
  add(pieces, vector.data, static_cast<std::size_t>(vector.size), kind);
}

void WeightCheck::add_layer(std::vector<Piece>& pieces, int index) const {
  const LayerWeights& layer = weights_.layers[static_cast<std::size_t>(index)];
  const AttentionWeights& attention = layer.attention;
  const DeltaWeights& delta = layer.delta;
  for (const Matrix* matrix : {&attention.q_proj, &attention.k_proj, &attention.v_proj, &attention.o_proj,
                               &delta.in_proj_qkv, &delta.in_proj_z, &delta.in_proj_b, &delta.in_proj_a,
                               &delta.out_proj, &layer.router, &layer.shared_expert_gate})
    add(pieces, *matrix);
  for (const MlpWeights* mlp : {&layer.mlp, &layer.shared_expert})
    for (const Matrix* matrix : {&mlp->gate_proj, &mlp->up_proj, &mlp->down_proj}) add(pieces, *matrix);
}

bool WeightCheck::good(const Piece& piece) {
  switch (piece.kind) {
    case Kind::scale_bf16:
      return all_within(piece.data, piece.count, least_normal_bf16, beyond_bf16);
    case Kind::bf16:
      return all_within(piece.data, piece.count, std::int16_t{0}, beyond_bf16);
    case Kind::f16:
      return all_within(piece.data, piece.count, std::int16_t{0}, beyond_f16);
    case Kind::f32:
      return all_within(piece.data, piece.count, std::int32_t{0}, beyond_f32);
  }
  return true;
}

void WeightCheck::require_good() {
  if (!bad_.load()) return;
  const std::scoped_lock lock(mutex_);
  throw Error(ErrorKind::checkpoint, problem_);
}

void WeightCheck::scan(const std::vector<Piece>& pieces) {
  std::atomic<std::size_t> bad{pieces.size()};
  pool_.run(static_cast<int>(pieces.size()), [&](int task, int) {
    const auto i = static_cast<std::size_t>(task);
    if (i >= bad.load(std::memory_order_relaxed) || good(pieces[i])) return;
    std::size_t least = bad.load();
    while (i < least && !bad.compare_exchange_weak(least, i)) {
    }
  });
  if (bad.load() < pieces.size()) fail(pieces[bad.load()]);
}

void WeightCheck::fail(const Piece& piece) {
  const std::size_t bytes = piece.kind == Kind::f32 ? 4 : 2;
  std::size_t i = 0;
  while (i + 1 < piece.count && good({piece.data + i * bytes, 1, piece.kind})) ++i;
  const std::byte* at = piece.data + i * bytes;
  const float value = piece.kind == Kind::f32   ? load<float>(at)
                      : piece.kind == Kind::f16 ? f16_to_f32(load<std::uint16_t>(at))
                                                : bf16_to_f32(load<std::uint16_t>(at));
  const std::string what = std::isnan(value)     ? "a NaN"
                           : std::isinf(value)   ? "an infinity"
                           : std::abs(value) < 1 ? fmt::format("the denormal {:.3g}", value)
                                                 : fmt::format("{:.3g}", value);
  std::string where = checkpoint_.directory().string();
  for (const auto& [name, tensor] : checkpoint_.tensors())
    if (at >= tensor.bytes.data() && at < tensor.bytes.data() + tensor.bytes.size())
      where += fmt::format(": tensor {} has {} at element {}", name, what,
                           static_cast<std::size_t>(at - tensor.bytes.data()) / element_bytes(tensor));
  {
    const std::scoped_lock lock(mutex_);
    if (problem_.empty())
      problem_ =
          where + ", expected finite numbers as a trained model has: the file is damaged, fetch or convert it again";
    bad_.store(true);
  }
  require_good();
  throw Error(ErrorKind::internal, "a bad tensor was forgotten");
}

void WeightCheck::at_load() {
  std::vector<Piece> pieces;
  for (const LayerWeights& layer : weights_.layers)
    for (const Vector* vector :
         {&layer.input_layernorm, &layer.post_attention_layernorm, &layer.attention.q_norm, &layer.attention.k_norm,
          &layer.delta.conv1d, &layer.delta.A_log, &layer.delta.dt_bias, &layer.delta.norm})
      add(pieces, *vector);
  add(pieces, weights_.norm);
  scan(pieces);

  pieces.clear();
  for (int i = 0; i < static_cast<int>(weights_.layers.size()); ++i) {
    add_layer(pieces, i);
    const MlpWeights& experts = weights_.layers[static_cast<std::size_t>(i)].experts;
    for (const Matrix* matrix : {&experts.gate_proj, &experts.up_proj, &experts.down_proj}) add(pieces, *matrix);
  }
  add(pieces, weights_.embed_tokens);
  add(pieces, weights_.lm_head);
  std::size_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.count * (piece.kind == Kind::f32 ? 4 : 2);
  if (bytes > read_at_load) return;
  scan(pieces);
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) layers_[i].store(true);
  for (std::size_t i = 0; i < weights_.layers.size() * experts_of_layer_; ++i) experts_[i].store(true);
  head_.store(true);
}

void WeightCheck::embedding_rows(std::span<const int> ids) {
  require_good();
  std::vector<Piece> pieces;
  for (const int id : ids) {
    pieces.clear();
    add(pieces, weights_.embed_tokens.rows(id, 1));
    for (const Piece& piece : pieces)
      if (!good(piece)) fail(piece);
  }
}

void WeightCheck::layer(int index) {
  std::atomic<bool>& checked = layers_[static_cast<std::size_t>(index)];
  if (checked.load(std::memory_order_relaxed)) return;
  std::vector<Piece> pieces;
  add_layer(pieces, index);
  scan(pieces);
  checked.store(true);
}

void WeightCheck::experts(int layer, std::span<const int> chosen) {
  std::atomic<bool>* checked = experts_.get() + static_cast<std::size_t>(layer) * experts_of_layer_;
  std::vector<Piece> pieces;
  std::vector<int> fresh;
  for (const int expert : chosen)
    if (!checked[expert].load(std::memory_order_relaxed) &&
        std::find(fresh.begin(), fresh.end(), expert) == fresh.end())
      fresh.push_back(expert);
  if (fresh.empty()) return;
  const MlpWeights& experts = weights_.layers[static_cast<std::size_t>(layer)].experts;
  for (const int expert : fresh)
    for (const Matrix* matrix : {&experts.gate_proj, &experts.up_proj, &experts.down_proj})
      add(pieces, matrix->expert(expert));
  scan(pieces);
  for (const int expert : fresh) checked[expert].store(true);
}

void WeightCheck::head() {
  if (head_.load(std::memory_order_relaxed)) return;
  std::vector<Piece> pieces;
  add(pieces, weights_.lm_head);
  scan(pieces);
  head_.store(true);
}

void WeightCheck::overflow() const {
  throw Error(ErrorKind::checkpoint,
              fmt::format("{}: the model computes logits that are not finite, although its weights are: they are not "
                          "those of a trained model",
                          checkpoint_.directory().string()));
}

}  // namespace tqkv::cpu
