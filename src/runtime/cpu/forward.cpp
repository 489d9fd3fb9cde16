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

Forward::Forward(CpuSession& session)
    : session_(session),
      engine_(session.engine_),
      config_(engine_.config()),
      kernels_(engine_.kernels()),
      pool_(engine_.pool()),
      work_(session.work_),
      linear_(engine_, work_) {}

void Forward::run(std::span<const int> ids) {
  tokens_ = static_cast<int>(ids.size());
  for (auto& cache : session_.caches_) {
    cache.keys.reserve(session_.position_ + tokens_);
    cache.values.reserve(session_.position_ + tokens_);
  }
  embed(ids);
  rope_angles();
  observe(0, work_.hidden);
  std::size_t attention_layer = 0, linear_layer = 0;
  for (int i = 0; i < config_.num_layers(); ++i) {
    const auto& layer = engine_.weights().layers[static_cast<std::size_t>(i)];
    const auto& vectors = engine_.vectors(i);
    engine_.weight_check().layer(i);
    norm_rows(work_.hidden, vectors.input_layernorm, work_.normed);
    if (layer.kind == LayerKind::full_attention)
      attention(session_.caches_[attention_layer++], layer.attention, vectors);
    else
      delta(session_.states_[linear_layer++], layer.delta, vectors);
    add_mixed();
    norm_rows(work_.hidden, vectors.post_attention_layernorm, work_.normed);
    mlp(layer);
    add_mixed();
    if (i + 1 < config_.num_layers()) observe(i + 1, work_.hidden);
  }
  if (session_.observer_) {
    norm_rows(work_.hidden, engine_.final_norm(), work_.normed);
    observe(config_.num_layers(), work_.normed);
  }
  session_.position_ += tokens_;
  session_.ids_.insert(session_.ids_.end(), ids.begin(), ids.end());
}

void Forward::observe(int layer, const float* values) {
  if (!session_.observer_) return;
  const auto size = static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(config_.hidden_size);
  session_.observer_->hidden(layer, {values, size}, tokens_);
}

void Forward::embed(std::span<const int> ids) {
  engine_.weight_check().embedding_rows(ids);
  for_rows(tokens_, [&](int first, int count) {
    for (int t = first; t < first + count; ++t)
      kernels_.matrix.dequantize_row(engine_.weights().embed_tokens, ids[static_cast<std::size_t>(t)],
                                     work_.hidden + static_cast<std::ptrdiff_t>(t) * config_.hidden_size);
  });
}

void Forward::rope_angles() {
  const RotaryAngles& rotary = engine_.rotary();
  const auto half = static_cast<std::ptrdiff_t>(rotary.inverse_frequency.size());
  for_rows(tokens_, [&](int first, int count) {
    for (int t = first; t < first + count; ++t)
      rotary.at(session_.position_ + t, work_.cosine + t * half, work_.sine + t * half);
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

// Logits of `count` <= logit_rows rows from `first` on: every row with the same arithmetic, alone or not.
void Forward::logit_rows_from(int first, int count, float* out) {
  const int dim = config_.hidden_size, vocab = config_.vocab_size;
  float* rows = work_.normed + static_cast<std::ptrdiff_t>(first) * dim;
  kernels_.vector.rms_norm(work_.hidden + static_cast<std::ptrdiff_t>(first) * dim, dim, engine_.final_norm().data(),
                           count, dim, config_.rms_norm_eps, rows, dim);
  const Matrix& head = engine_.weights().lm_head;
  const bool integer = engine_.precision() == Precision::fast && head.quantized();
  if (integer)
    for (int row = 0; row < count; ++row) {
      auto& quantized = work_.logit_row16[static_cast<std::size_t>(row)];
      quantized.cols = dim;
      kernels_.matrix.quantize16(rows + static_cast<std::ptrdiff_t>(row) * dim, &quantized);
    }
  const int block = rows_per_task(head, 1);
  engine_.weight_check().head();
  std::atomic<bool> finite{true};
  pool_.run(ceil_div(vocab, block), [&](int task, int worker) {
    const int begin = task * block, end = std::min(begin + block, vocab);
    for (int row = 0; row < count; ++row) {
      float* y = out + static_cast<std::ptrdiff_t>(row) * vocab + begin;
      if (integer)
        kernels_.matrix.multiply16(head, begin, end, work_.logit_row16[static_cast<std::size_t>(row)], y);
      else
        kernels_.matrix.multiply_f32(head, begin, end, rows + static_cast<std::ptrdiff_t>(row) * dim, dim, nullptr, 1,
                                     y, vocab, work_.workers[static_cast<std::size_t>(worker)].matrix);
      if (!all_finite(y, end - begin)) finite.store(false, std::memory_order_relaxed);
    }
  });
  if (!finite.load()) engine_.weight_check().overflow();
}

void Forward::logits(int first, int last, const std::function<void(int, std::span<const float>)>& sink) {
  const auto vocab = static_cast<std::size_t>(config_.vocab_size);
  work_.many_logits.resize(logit_rows * vocab);
  for (int begin = first; begin < last; begin += logit_rows) {
    const int count = std::min(logit_rows, last - begin);
    logit_rows_from(begin, count, work_.many_logits.data());
    for (int row = 0; row < count; ++row)
      sink(begin + row, {work_.many_logits.data() + static_cast<std::size_t>(row) * vocab, vocab});
  }
}

std::span<const float> Forward::last_logits() {
  logit_rows_from(tokens_ - 1, 1, work_.logits);
  return {work_.logits, static_cast<std::size_t>(config_.vocab_size)};
}

}  // namespace tqkv::cpu
