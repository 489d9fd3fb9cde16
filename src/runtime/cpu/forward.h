// Forward: one pass of a chunk of tokens through the layers. Each formula of docs/architecture.md stands once in the
// three layer files, under the name it has there.
#pragma once
#include <functional>
#include <span>

#include "runtime/cpu/linear.h"
#include "runtime/cpu/session.h"

namespace tqkv::cpu {

class Forward {
 public:
  explicit Forward(CpuSession& session);
  /// Feeds `ids` (at most one chunk) and moves the session's position.
  void run(std::span<const int> ids);
  /// Logits of the rows first..last-1 of the last run, in order.
  void logits(int first, int last, const std::function<void(int row, std::span<const float>)>& sink);
  /// Logits [vocab] of its last row.
  std::span<const float> last_logits();

 private:
  void embed(std::span<const int> ids);
  void rope_angles();
  void norm_rows(const float* x, const std::vector<float>& weight, float* out);
  void add_mixed();  // hidden += mixed
  void attention(LayerCacheStore& cache, const AttentionWeights& weights, const LayerVectors& vectors);
  void delta(LayerState& state, const DeltaWeights& weights, const LayerVectors& vectors);
  void delta_heads(LayerState& state);
  void mlp(const LayerWeights& layer);
  void dense(const MlpWeights& weights);
  void experts(const LayerWeights& layer);
  void route(const LayerWeights& layer);
  void experts_of_one(const LayerWeights& layer);
  void experts_of_many(const LayerWeights& layer);
  void shared_expert(const LayerWeights& layer, const Activations& x);
  void swiglu(float* gate, float* up, int rows, int inner, Rows16* out);
  void logit_rows_from(int first, int count, float* out);  // [count, vocab]
  void observe(int layer, const float* values);

  template <class Body>
  void for_rows(int rows, const Body& body);  // body(first, count) over blocks of rows

  CpuSession& session_;
  const CpuEngine& engine_;
  const ModelConfig& config_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  WorkBuffers& work_;
  Linear linear_;
  int tokens_ = 0;  // of the chunk in work_
};

template <class Body>
void Forward::for_rows(int rows, const Body& body) {
  pool_.run(ceil_div(rows, row_block), [&](int task, int) {
    const int first = task * row_block;
    body(first, std::min(row_block, rows - first));
  });
}

}  // namespace tqkv::cpu
