#include "runtime/cpu/linear.h"

#include <algorithm>
#include <cassert>

namespace tqkv::cpu {

int rows_per_task(const Matrix& w) {
  constexpr std::size_t task_bytes = std::size_t{1} << 17;
  const auto rows = static_cast<int>(task_bytes / std::max<std::size_t>(w.row_bytes(), 1)) / 16 * 16;
  return std::clamp(rows, 16, 512);
}

bool in_integers(const Pass& pass, int channels) {
  return pass.engine.precision() == Precision::fast && channels % Matrix::group == 0;
}

void quantize(const Pass& pass, const Activations& x, int first, int count) {
  if (!x.rows16) return;
  const int end = first + count, single_end = std::min(end, pass.batch.singles());
  for (; first < single_end; ++first) {
    Row16& to = x.row16[first];
    to.cols = x.x.columns;
    pass.matrix().quantize16(x.x.row(first), &to);
  }
  if (first < end) pass.matrix().quantize_rows(x.x.row(first), end - first, x.x.columns, x.rows16, first);
}

Activations with_room(const Pass& pass, Rows<const float> x, Rows16& rows16, std::vector<Row16>& row16) {
  if (!in_integers(pass, x.columns)) return {x};
  rows16.rows = pass.rows();
  rows16.cols = x.columns;
  return {x, row16.data(), &rows16};
}

Activations activations(const Pass& pass, Rows<const float> x) {
  const Activations out = with_room(pass, x, pass.work.rows16, pass.work.row16);
  if (out.rows16) for_row_blocks(pass, [&](int first, int count) { quantize(pass, out, first, count); });
  return out;
}

namespace {

// Rows first..last-1 of one product, for every row of the batch, on the calling thread.
void multiply_rows(const Pass& pass, const Product& product, const Activations& x, int first, int last, int worker) {
  const MatrixKernels& kernels = pass.matrix();
  const Matrix& w = product.w;
  const bool integer = x.rows16 && w.quantized() && !product.exact;
  for (const Run& run : pass.batch.runs()) {
    float* y = product.y.row(run.first) + first;
    const auto stride = product.y.stride;
    if (integer && run.single)
      kernels.multiply16(w, first, last, x.row16 + run.first, nullptr, run.count, y, stride);
    else if (integer)
      kernels.multiply_rows(w, first, last, x.rows16->from(run.first), run.planes(product.tolerance), nullptr,
                            run.count, y, stride);
    else
      kernels.multiply_f32(w, first, last, x.x.row(run.first), x.x.stride, nullptr, run.count, run.additions, y, stride,
                           pass.work.worker(worker).matrix);
  }
}

}  // namespace

void multiply(const Pass& pass, std::initializer_list<Product> products, const Activations& x) {
  // Many tokens: rows whose activations fit the caches.
  const bool many = pass.rows() > pass.batch.singles();
  const auto block_of = [&](const Matrix& w) { return many ? 32 : rows_per_task(w); };
  int tasks = 0;
  for (const Product& product : products) {
    assert(product.w.in == x.x.columns && product.w.out == product.y.columns);
    tasks += ceil_div(product.w.out, block_of(product.w));
  }
  pass.pool().run(tasks, [&](int task, int worker) {
    for (const Product& product : products) {
      const int out = product.w.out, block = block_of(product.w), own = ceil_div(out, block);
      if (task >= own) {
        task -= own;
        continue;
      }
      multiply_rows(pass, product, x, task * block, std::min((task + 1) * block, out), worker);
      return;
    }
  });
}

}  // namespace tqkv::cpu
