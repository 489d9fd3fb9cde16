#include "runtime/cpu/linear.h"

#include <algorithm>

namespace tqkv::cpu {

int rows_per_task(const Matrix& w) {
  constexpr std::size_t task_bytes = std::size_t{1} << 17;
  const auto rows = static_cast<int>(task_bytes / std::max<std::size_t>(w.row_bytes(), 1)) / 16 * 16;
  return std::clamp(rows, 16, 512);
}

void Linear::quantize(const Activations& x, int first, int count) const {
  if (!x.rows16) return;
  const auto& kernels = engine_.kernels().matrix;
  const auto row = [&](int at) { return x.x + static_cast<std::ptrdiff_t>(at) * x.cols; };
  const int end = first + count, single_end = std::min(end, batch_.singles());
  for (; first < single_end; ++first) {
    Row16& to = x.row16[first];
    to.cols = x.cols;
    kernels.quantize16(row(first), &to);
  }
  if (first < end) kernels.quantize_rows(row(first), end - first, x.cols, x.rows16, first);
}

Activations Linear::activations(const float* x, int cols) const {
  Activations out{x, cols, nullptr, nullptr};
  if (!integer(cols)) return out;
  const int rows = batch_.rows();
  out.row16 = work_.row16.data();
  out.rows16 = &work_.rows16;
  out.rows16->rows = rows;
  out.rows16->cols = cols;
  constexpr int block = 16;
  engine_.pool().run(ceil_div(rows, block),
                     [&](int task, int) { quantize(out, task * block, std::min(block, rows - task * block)); });
  return out;
}

// Rows first..last-1 of one product, for every row of the batch, on the calling thread.
void Linear::multiply_rows(const Product& product, const Activations& x, int first, int last, int worker) const {
  const auto& kernels = engine_.kernels().matrix;
  const bool integer = x.rows16 && product.w->quantized() && !product.exact;
  for (const Run& run : batch_.runs()) {
    float* y = product.y + run.first * product.stride + first;
    if (integer && run.single)
      kernels.multiply16(*product.w, first, last, x.row16 + run.first, nullptr, run.count, y, product.stride);
    else if (integer)
      kernels.multiply_rows(*product.w, first, last, x.rows16->from(run.first), run.planes(product.tolerance), nullptr,
                            run.count, y, product.stride);
    else
      kernels.multiply_f32(*product.w, first, last, x.x + static_cast<std::ptrdiff_t>(run.first) * x.cols, x.cols,
                           nullptr, run.count, run.additions, y, product.stride,
                           work_.workers[static_cast<std::size_t>(worker)].matrix);
  }
}

void Linear::multiply(std::span<const Product> products, const Activations& x) const {
  // Many tokens: rows whose activations fit the caches.
  const auto block_of = [&](const Matrix& w) { return batch_.rows() > batch_.singles() ? 32 : rows_per_task(w); };
  int tasks = 0;
  for (const auto& product : products) tasks += ceil_div(product.w->out, block_of(*product.w));
  engine_.pool().run(tasks, [&](int task, int worker) {
    for (const auto& product : products) {
      const int block = block_of(*product.w), own = ceil_div(product.w->out, block);
      if (task >= own) {
        task -= own;
        continue;
      }
      multiply_rows(product, x, task * block, std::min((task + 1) * block, product.w->out), worker);
      return;
    }
  });
}

}  // namespace tqkv::cpu
