// Linear maps over the threads: activations in the form that the engine's precision multiplies, and several matrices
// that share them in one parallel region.
#pragma once
#include <cstddef>
#include <span>

#include "runtime/cpu/batch.h"
#include "runtime/cpu/engine.h"
#include "runtime/cpu/workspace.h"

namespace tqkv::cpu {

/// The rows of a batch [rows, cols], in fast precision as 16-bit integers too: those of the batch's single rows in
/// `row16`, others in `rows16`, where they lie in the batch.
struct Activations {
  const float* x = nullptr;
  int cols = 0;
  Row16* row16 = nullptr;    // [singles]
  Rows16* rows16 = nullptr;  // [rows]; null: floats alone
};

/// One product y[t, :] = W x[t, :]; row t of y is at y + t * stride.
struct Product {
  const Matrix* w = nullptr;
  float* y = nullptr;
  std::ptrdiff_t stride = 0;
  bool exact = false;  // in f32 whatever the precision
  Tolerance tolerance = Tolerance::none;
};

class Linear {
 public:
  Linear(const CpuEngine& engine, Workspace& work, const Batch& batch) : engine_(engine), work_(work), batch_(batch) {}

  /// Whether rows of `cols` channels are multiplied as integers.
  bool integer(int cols) const { return engine_.precision() == Precision::fast && cols % Matrix::group == 0; }
  /// x [rows, cols], quantized into the workspace when the precision is fast.
  Activations activations(const float* x, int cols) const;
  /// Integers of rows first..first+count-1, where there are integers.
  void quantize(const Activations& x, int first, int count) const;
  void multiply(std::span<const Product> products, const Activations& x) const;

 private:
  void multiply_rows(const Product& product, const Activations& x, int first, int last, int worker) const;

  const CpuEngine& engine_;
  Workspace& work_;
  const Batch& batch_;
};

/// Output rows of one task. Few tokens: about 128 KiB of weights that lie side by side, because memory is read fastest
/// in long runs.
int rows_per_task(const Matrix& w);
inline int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

}  // namespace tqkv::cpu
