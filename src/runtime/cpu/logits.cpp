// Logits of rows of the residual stream: W_head rms(h, w_final).
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

#include "runtime/cpu/forward.h"
#include "runtime/cpu/linear.h"
#include "runtime/cpu/vector_rows.h"

namespace tqkv::cpu {
namespace {

bool all_finite(const float* x, int size) {
  std::uint32_t largest = 0;  // without the sign, infinities and NaN are above all numbers
  for (int i = 0; i < size; ++i) largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return largest < 0x7f800000u;
}

// At most logit_rows of them. As decoded tokens are computed, whatever the rows are: every row with the same
// arithmetic, alone or not.
void logit_block(const Pass& pass, std::span<const int> rows, Rows<float> out) {
  Workspace& work = pass.work;
  const MatrixKernels& kernels = pass.matrix();
  const Matrix& head = pass.engine.weights().lm_head;
  const bool integer = pass.engine.precision() == Precision::fast && head.quantized();
  pass.engine.weight_check().head();
  for (int i = 0; i < out.rows; ++i) {
    const int row = rows[static_cast<std::size_t>(i)];
    rms_norm(pass.vector(), work.hidden.sub(row, 1), pass.engine.final_norm(), pass.config().rms_norm_eps,
             work.logit_x.sub(i, 1));
    if (integer) kernels.quantize16(work.logit_x.row(i), &work.logit_row16[static_cast<std::size_t>(i)]);
  }
  const int block = rows_per_task(head);
  std::atomic<bool> finite{true};
  pass.pool().run(ceil_div(head.out, block), [&](int task, int worker) {
    const int first = task * block, last = std::min(first + block, head.out);
    const Rows<float> y = out.slice(first, last - first);
    if (integer)
      kernels.multiply16(head, first, last, work.logit_row16.data(), nullptr, y.rows, y.data, y.stride);
    else
      kernels.multiply_f32(head, first, last, work.logit_x.data, work.logit_x.stride, nullptr, y.rows,
                           Additions::along_rows, y.data, y.stride, work.worker(worker).matrix);
    for (int i = 0; i < y.rows; ++i)
      if (!all_finite(y.row(i), y.columns)) finite.store(false, std::memory_order_relaxed);
  });
  if (!finite.load()) pass.engine.weight_check().overflow();
}

}  // namespace

void logits(const Pass& pass, int row, float* out) {
  logit_block(pass, {&row, 1}, {out, 1, pass.config().vocab_size});
}

void logits(const Pass& pass, std::span<const int> rows, const std::function<void(int, std::span<const float>)>& sink) {
  for (std::size_t begin = 0; begin < rows.size(); begin += logit_rows) {
    const auto part = rows.subspan(begin, std::min<std::size_t>(logit_rows, rows.size() - begin));
    Rows<float> out(nullptr, static_cast<int>(part.size()), pass.config().vocab_size);
    pass.work.many_logits.resize(std::max(pass.work.many_logits.size(), out.size()));
    out.data = pass.work.many_logits.data();
    logit_block(pass, part, out);
    for (int i = 0; i < out.rows; ++i) sink(part[static_cast<std::size_t>(i)], out.sub(i, 1).span());
  }
}

}  // namespace tqkv::cpu
