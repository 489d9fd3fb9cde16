#include "runtime/cpu/forward.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

namespace tqkv::cpu {
namespace {

bool all_finite(const float* x, int size) {
  std::uint32_t largest = 0;  // without the sign, infinities and NaN are above all numbers
  for (int i = 0; i < size; ++i) largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return largest < 0x7f800000u;
}

}  // namespace

Forward::Forward(const CpuEngine& engine, Workspace& work, const Batch& batch)
    : engine_(engine),
      config_(engine.config()),
      kernels_(engine.kernels()),
      pool_(engine.pool()),
      work_(work),
      batch_(batch),
      linear_(engine, work, batch),
      tokens_(batch.rows()) {
  for (const Segment& segment : batch.segments()) observed_ = observed_ || segment.observer;
}

void Forward::run() {
  embed();
  rope_angles();
  observe(0, work_.hidden);
  std::size_t attention_layer = 0, linear_layer = 0;
  for (int i = 0; i < config_.num_layers(); ++i) {
    const auto& layer = engine_.weights().layers[static_cast<std::size_t>(i)];
    const auto& vectors = engine_.vectors(i);
    engine_.weight_check().layer(i);
    norm_rows(work_.hidden, vectors.input_layernorm, work_.normed);
    if (layer.kind == LayerKind::full_attention)
      attention(attention_layer++, layer.attention, vectors);
    else
      delta(linear_layer++, layer.delta, vectors);
    add_mixed();
    norm_rows(work_.hidden, vectors.post_attention_layernorm, work_.normed);
    mlp(layer);
    add_mixed();
    if (i + 1 < config_.num_layers()) observe(i + 1, work_.hidden);
  }
  if (observed_) {
    norm_rows(work_.hidden, engine_.final_norm(), work_.normed);
    observe(config_.num_layers(), work_.normed);
  }
}

void Forward::observe(int layer, const float* values) {
  if (!observed_) return;
  const auto hidden = static_cast<std::size_t>(config_.hidden_size);
  for (const Segment& segment : batch_.segments())
    if (segment.observer)
      segment.observer->hidden(layer,
                               {values + static_cast<std::size_t>(segment.first) * hidden, segment.ids.size() * hidden},
                               segment.rows());
}

void Forward::embed() {
  for (const Segment& segment : batch_.segments()) engine_.weight_check().embedding_rows(segment.ids);
  for_rows(tokens_, [&](int first, int count) {
    for (int t = first; t < first + count; ++t) {
      const Segment& segment = batch_.segment_of(t);
      kernels_.matrix.dequantize_row(engine_.weights().embed_tokens,
                                     segment.ids[static_cast<std::size_t>(t - segment.first)],
                                     row(work_.hidden, t, config_.hidden_size));
    }
  });
}

void Forward::rope_angles() {
  const RotaryAngles& rotary = engine_.rotary();
  const auto half = static_cast<int>(rotary.inverse_frequency.size());
  for_rows(tokens_, [&](int first, int count) {
    for (int t = first; t < first + count; ++t)
      rotary.at(batch_.position_of(t), row(work_.cosine, t, half), row(work_.sine, t, half));
  });
}

void Forward::norm_rows(const float* x, const std::vector<float>& weight, float* out) {
  const int dim = config_.hidden_size;
  for_rows(tokens_, [&](int first, int count) {
    const auto at = static_cast<std::ptrdiff_t>(first) * dim;
    kernels_.vector.rms_norm(x + at, dim, weight.data(), count, dim, config_.rms_norm_eps, out + at, dim);
  });
}

void Forward::add_mixed() {
  const int dim = config_.hidden_size;
  for_rows(tokens_, [&](int first, int count) {
    const auto at = static_cast<std::ptrdiff_t>(first) * dim;
    kernels_.vector.add(work_.hidden + at, work_.mixed + at,
                        static_cast<std::size_t>(count) * static_cast<std::size_t>(dim));
  });
}

// As decoded tokens are computed, whatever the rows are: every row with the same arithmetic, alone or not.
void Forward::logit_block(std::span<const int> rows, float* out) {
  const int dim = config_.hidden_size, vocab = config_.vocab_size, count = static_cast<int>(rows.size());
  const Matrix& head = engine_.weights().lm_head;
  const bool integer = engine_.precision() == Precision::fast && head.quantized();
  engine_.weight_check().head();
  for (int i = 0; i < count; ++i) {
    float* x = row(work_.logit_x, i, dim);
    kernels_.vector.rms_norm(row(work_.hidden, rows[static_cast<std::size_t>(i)], dim), dim,
                             engine_.final_norm().data(), 1, dim, config_.rms_norm_eps, x, dim);
    if (integer) kernels_.matrix.quantize16(x, &work_.logit_row16[static_cast<std::size_t>(i)]);
  }
  const int block = rows_per_task(head);
  std::atomic<bool> finite{true};
  pool_.run(ceil_div(vocab, block), [&](int task, int worker) {
    const int first = task * block, last = std::min(first + block, vocab);
    if (integer)
      kernels_.matrix.multiply16(head, first, last, work_.logit_row16.data(), nullptr, count, out + first, vocab);
    else
      kernels_.matrix.multiply_f32(head, first, last, work_.logit_x, dim, nullptr, count, Additions::along_rows,
                                   out + first, vocab, work_.workers[static_cast<std::size_t>(worker)].matrix);
    for (int i = 0; i < count; ++i)
      if (!all_finite(row(out, i, vocab) + first, last - first)) finite.store(false, std::memory_order_relaxed);
  });
  if (!finite.load()) engine_.weight_check().overflow();
}

void Forward::logits(int row, float* out) {
  logit_block({&row, 1}, out);
}

void Forward::logits(std::span<const int> rows, const std::function<void(int, std::span<const float>)>& sink) {
  const auto vocab = static_cast<std::size_t>(config_.vocab_size);
  for (std::size_t begin = 0; begin < rows.size(); begin += logit_rows) {
    const auto part = rows.subspan(begin, std::min<std::size_t>(logit_rows, rows.size() - begin));
    work_.many_logits.resize(std::max(work_.many_logits.size(), part.size() * vocab));
    logit_block(part, work_.many_logits.data());
    for (std::size_t i = 0; i < part.size(); ++i) sink(part[i], {work_.many_logits.data() + i * vocab, vocab});
  }
}

}  // namespace tqkv::cpu
