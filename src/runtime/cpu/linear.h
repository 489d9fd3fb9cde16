// Linear maps over the threads: activations in the form that the engine's precision multiplies, and several matrices
// that share them in one parallel region.
#pragma once
#include <cstddef>
#include <span>

#include "runtime/cpu/engine.h"
#include "runtime/cpu/work_buffers.h"

namespace tqkv::cpu {

/// `rows` rows of activations [rows, cols], in fast precision as 16-bit integers too.
struct Activations {
  const float* x = nullptr;
  int rows = 0, cols = 0;
  const Rows16* rows16 = nullptr;
  const Row16* row16 = nullptr;
};

/// One product y[t, :] = W x[t, :]; row t of y is at y + t * stride.
struct Product {
  const Matrix* w = nullptr;
  float* y = nullptr;
  std::ptrdiff_t stride = 0;
  bool exact = false;            // in f32 whatever the precision
  Planes planes = Planes::both;  // of many rows
};

class Linear {
 public:
  Linear(const CpuEngine& engine, WorkBuffers& work) : engine_(engine), work_(work) {}

  /// Whether rows of `cols` channels are multiplied as integers.
  bool integer(int cols) const { return engine_.precision() == Precision::fast && cols % Matrix::group == 0; }
  /// Quantizes x [rows, cols] into the work buffers when the precision is fast.
  Activations activations(const float* x, int rows, int cols) const;
  void multiply(std::span<const Product> products, const Activations& x) const;

  /// Rows first..last-1 of one product on the calling thread.
  void multiply_rows(const Product& product, const Activations& x, int first, int last, int worker) const;

 private:
  const CpuEngine& engine_;
  WorkBuffers& work_;
};

inline Planes planes_of(int bits) {
  return bits == 8 ? Planes::high : Planes::both;
}

/// Output rows of one task. One token: about 256 KiB of weights that lie side by side, because memory is read fastest
/// in long runs; many tokens: rows whose activations fit the caches.
int rows_per_task(const Matrix& w, int tokens);
inline int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

}  // namespace tqkv::cpu
