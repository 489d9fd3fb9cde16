// Pass: what the functions of one forward pass share.
#pragma once
#include <algorithm>

#include "base/thread_pool.h"
#include "runtime/cpu/batch.h"
#include "runtime/cpu/engine.h"
#include "runtime/cpu/workspace.h"

namespace tqkv::cpu {

struct Pass {
  const CpuEngine& engine;
  Workspace& work;  // has room for the batch
  const Batch& batch;

  int rows() const { return batch.rows(); }
  const ModelConfig& config() const { return engine.config(); }
  const MatrixKernels& matrix() const { return engine.kernels().matrix; }
  const VectorKernels& vector() const { return engine.kernels().vector; }
  const DeltaKernels& delta() const { return engine.kernels().delta; }
  ThreadPool& pool() const { return engine.pool(); }
};

/// body(first, count) over blocks of the batch's rows, on all threads.
template <class Body>
void for_row_blocks(const Pass& pass, const Body& body) {
  const int rows = pass.rows();
  pass.pool().run(ceil_div(rows, row_block), [&](int task, int) {
    const int first = task * row_block;
    body(first, std::min(row_block, rows - first));
  });
}

/// body(row) for every row of the batch, on all threads.
template <class Body>
void for_rows(const Pass& pass, const Body& body) {
  for_row_blocks(pass, [&](int first, int count) {
    for (int row = first; row < first + count; ++row) body(row);
  });
}

}  // namespace tqkv::cpu
