#include "runtime/cpu/linear.h"

#include <algorithm>

namespace tqkv::cpu {

int rows_per_task(const Matrix& w, int tokens) {
  if (tokens > 1) return 32;
  constexpr std::size_t task_bytes = std::size_t{1} << 17;
  const auto rows = static_cast<int>(task_bytes / std::max<std::size_t>(w.row_bytes(), 1)) / 16 * 16;
  return std::clamp(rows, 16, 512);
}

Activations Linear::activations(const float* x, int rows, int cols) const {
  Activations out{x, rows, cols, nullptr, nullptr};
  if (!integer(cols)) return out;
  const auto& kernels = engine_.kernels().matrix;
  if (rows == 1) {
    work_.row16.cols = cols;
    kernels.quantize16(x, &work_.row16);
    out.row16 = &work_.row16;
    return out;
  }
  work_.rows16.rows = rows;
  work_.rows16.cols = cols;
  constexpr int block = 16;
  engine_.pool().run(ceil_div(rows, block), [&](int task, int) {
    const int first = task * block;
    kernels.quantize_rows(x + static_cast<std::ptrdiff_t>(first) * cols, std::min(block, rows - first), cols,
                          &work_.rows16, first);
  });
  out.rows16 = &work_.rows16;
  return out;
}

void Linear::multiply_rows(const Product& product, const Activations& x, int first, int last, int worker) const {
  const auto& kernels = engine_.kernels().matrix;
  float* y = product.y + first;
  const bool integer = product.w->quantized() && !product.exact;
  if (integer && x.row16)
    kernels.multiply16(*product.w, first, last, *x.row16, y);
  else if (integer && x.rows16)
    kernels.multiply_rows(*product.w, first, last, *x.rows16, product.planes, nullptr, x.rows, y, product.stride);
  else
    kernels.multiply_f32(*product.w, first, last, x.x, x.cols, nullptr, x.rows, y, product.stride,
                         work_.workers[static_cast<std::size_t>(worker)].matrix);
}

void Linear::multiply(std::span<const Product> products, const Activations& x) const {
  int tasks = 0;
  for (const auto& product : products) tasks += ceil_div(product.w->out, rows_per_task(*product.w, x.rows));
  engine_.pool().run(tasks, [&](int task, int worker) {
    for (const auto& product : products) {
      const int block = rows_per_task(*product.w, x.rows), own = ceil_div(product.w->out, block);
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
