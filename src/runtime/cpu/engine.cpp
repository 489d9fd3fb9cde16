#include "runtime/cpu/engine.h"

#include <algorithm>
#include <cmath>

#include "cache/accounting.h"
#include "runtime/cpu/device.h"
#include "runtime/cpu/forward.h"
#include "runtime/cpu/state.h"

namespace tqkv::cpu {
namespace {

// [channels, kernel] as stored to [kernel, channels]: a tap's weights lie side by side.
std::vector<float> tap_major(const Vector& conv, int kernel) {
  const int channels = conv.size / kernel;
  std::vector<float> out;
  out.reserve(static_cast<std::size_t>(conv.size));
  for (int tap = 0; tap < kernel; ++tap)
    for (int channel = 0; channel < channels; ++channel) out.push_back(conv.element(channel * kernel + tap));
  return out;
}

// The matrices in the order of their use, but the embedding, of which a token takes a row.
std::vector<std::span<const std::byte>> in_order_of_use(const Weights& weights) {
  std::vector<std::span<const std::byte>> ranges;
  const auto add = [&](const Matrix& matrix) {
    if (!matrix.weight) return;
    const auto rows = static_cast<std::size_t>(matrix.count) * static_cast<std::size_t>(matrix.out);
    ranges.emplace_back(matrix.weight, rows * matrix.row_bytes());
    if (!matrix.quantized()) return;
    for (const std::byte* side : {matrix.scales, matrix.biases})
      ranges.emplace_back(side, rows * static_cast<std::size_t>(matrix.in / Matrix::group) * 2);
  };
  for (const auto& layer : weights.layers) {
    const auto& attention = layer.attention;
    const auto& delta = layer.delta;
    for (const Matrix* matrix : {&attention.q_proj, &attention.k_proj, &attention.v_proj, &attention.o_proj,
                                 &delta.in_proj_qkv, &delta.in_proj_z, &delta.in_proj_b, &delta.in_proj_a,
                                 &delta.out_proj, &layer.router, &layer.shared_expert_gate})
      add(*matrix);
    for (const MlpWeights* mlp : {&layer.mlp, &layer.experts, &layer.shared_expert})
      for (const Matrix* matrix : {&mlp->gate_proj, &mlp->up_proj, &mlp->down_proj}) add(*matrix);
  }
  add(weights.lm_head);
  return ranges;
}

}  // namespace

CpuEngine::CpuEngine(Checkpoint a_checkpoint, const DeviceOptions& options)
    : DeviceEngine(std::move(a_checkpoint), options.precision, options.guard),
      weights_(bind_weights(checkpoint(), config())),
      kernels_(&kernels_of(options.device)),
      report_(device_kind().report(options)) {
  final_norm_ = weights_.norm.to_f32();
  for (const auto& layer : weights_.layers) {
    LayerVectors vectors;
    vectors.input_layernorm = layer.input_layernorm.to_f32();
    vectors.post_attention_layernorm = layer.post_attention_layernorm.to_f32();
    if (layer.kind == LayerKind::full_attention) {
      vectors.q_norm = layer.attention.q_norm.to_f32();
      vectors.k_norm = layer.attention.k_norm.to_f32();
    } else {
      vectors.conv1d = tap_major(layer.delta.conv1d, config().linear_conv_kernel_dim);
      vectors.negative_exp_A = layer.delta.A_log.to_f32();
      for (auto& value : vectors.negative_exp_A) value = -std::exp(value);
      vectors.dt_bias = layer.delta.dt_bias.to_f32();
      vectors.norm = layer.delta.norm.to_f32();
    }
    vectors_.push_back(std::move(vectors));
  }
  rotary_ = rotary_angles(config());
  read_ahead_ = std::make_unique<ReadAhead>(in_order_of_use(weights_));
  pool_ = std::make_unique<ThreadPool>(threads_of(options.device));
  weight_check_ = std::make_unique<WeightCheck>(checkpoint(), weights_, *pool_);
  weight_check_->at_load();
  workspaces_ = std::make_unique<Workspaces>(config(), *kernels_);
}

std::unique_ptr<DeviceState> CpuEngine::make_state(const KvFormat& format, StateType type) const {
  return std::make_unique<CpuState>(config(), format, precision(), type);
}

WorkSize CpuEngine::work_size(std::span<const Piece> pieces) const {
  WorkSize size{precision(), 0, 0, 0, pool_->size(), 0};
  for (const Piece& piece : pieces) {
    size.chunk += static_cast<int>(piece.ids.size());
    size.singles += piece.ids.size() == 1 ? 1 : 0;
    size.context = std::max(size.context, piece.context);
    size.space = std::max(size.space, cache::widest_vector(config(), piece.state->format()));
  }
  size.singles = std::max(size.singles, 1);  // a decode is next
  return size;
}

std::uint64_t CpuEngine::growth(std::span<const Piece> pieces) const {
  return workspaces_->growth(work_size(pieces));
}

// A state is changed in its place, layer by layer: a pass that has begun goes to its end.
bool CpuEngine::pass(std::span<const Piece> pieces, const std::atomic<bool>*) const {
  const WorkSize used = work_size(pieces);
  WorkSize room = used;  // for the largest pieces of these sessions, so that it need not grow
  std::vector<Segment> segments;
  for (const Piece& piece : pieces) {
    room.chunk = std::max(room.chunk, piece.chunk);
    auto* state = dynamic_cast<CpuState*>(piece.state);
    CpuSnapshot* keep = nullptr;
    if (piece.keep) {
      auto kept = state->empty_snapshot();
      keep = kept.get();
      *piece.keep = std::move(kept);
    }
    segments.push_back({state, piece.ids, piece.position, piece.observer, keep});
  }
  const auto work = workspaces_->borrow(room, used);
  const Batch batch(std::move(segments));
  const Pass forward_pass{*this, *work, batch};
  forward(forward_pass);

  std::vector<int> rows;
  std::vector<float*> to;  // where their logits belong
  for (const Piece& piece : pieces) {
    const Segment& segment = batch.segment_of(dynamic_cast<const CpuState&>(*piece.state), piece.position);
    if (piece.rows) {
      std::vector<int> wanted;
      for (int row = piece.first_row; row < segment.rows(); ++row) wanted.push_back(segment.first + row);
      logits(forward_pass, wanted,
             [&](int row, std::span<const float> values) { (*piece.rows)(row - segment.first, values); });
    }
    if (!piece.last_logits) continue;
    rows.push_back(segment.last());
    to.push_back(piece.last_logits);
  }
  if (rows.size() == 1) {
    logits(forward_pass, rows.front(), to.front());
    return true;
  }
  std::size_t next = 0;
  logits(forward_pass, rows,
         [&](int, std::span<const float> values) { std::copy(values.begin(), values.end(), to[next++]); });
  return true;
}

void CpuEngine::run_tasks(int count, const std::function<void(int)>& task) const {
  pool_->run(count, [&](int index, int) { task(index); });
}

}  // namespace tqkv::cpu
