// Forward: one pass of a batch of tokens through the layers. Each formula of docs/architecture.md stands once in the
// three layer files, under the name it has there. What is computed for each row alone runs over the whole batch; what
// looks at the past (attention, convolution, delta rule) goes segment by segment.
#pragma once
#include <functional>
#include <span>

#include "runtime/cpu/linear.h"

namespace tqkv::cpu {

class Forward {
 public:
  /// The workspace has room for the batch.
  Forward(const CpuEngine& engine, Workspace& work, const Batch& batch);
  /// Through all layers: every segment's state has its tokens afterwards.
  void run();
  /// Logits [vocab] of a row.
  void logits(int row, float* out);
  /// Of each of the rows given, one after the other.
  void logits(std::span<const int> rows, const std::function<void(int row, std::span<const float>)>& sink);

 private:
  void embed();
  void rope_angles();
  void norm_rows(const float* x, const std::vector<float>& weight, float* out);
  void add_mixed();  // hidden += mixed
  void attention(std::size_t index, const AttentionWeights& weights, const LayerVectors& vectors);
  void delta(std::size_t index, const DeltaWeights& weights, const LayerVectors& vectors);
  void convolve(std::size_t index, const LayerVectors& vectors);
  void delta_heads(std::size_t index);
  void mlp(const LayerWeights& layer);
  void dense(const MlpWeights& weights);
  void experts(const LayerWeights& layer);
  void route(const LayerWeights& layer);
  void logit_block(std::span<const int> rows, float* out);  // [rows, vocab], at most logit_rows
  void observe(int layer, const float* values);
  float* row(float* rows, int index, int stride) const { return rows + static_cast<std::ptrdiff_t>(index) * stride; }

  template <class Body>
  void for_rows(int rows, const Body& body);  // body(first, count) over blocks of rows

  const CpuEngine& engine_;
  const ModelConfig& config_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  Workspace& work_;
  const Batch& batch_;
  Linear linear_;
  const int tokens_;  // rows of the batch
  bool observed_ = false;
};

template <class Body>
void Forward::for_rows(int rows, const Body& body) {
  pool_.run(ceil_div(rows, row_block), [&](int task, int) {
    const int first = task * row_block;
    body(first, std::min(row_block, rows - first));
  });
}

}  // namespace tqkv::cpu
