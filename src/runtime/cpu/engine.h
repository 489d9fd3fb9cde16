// CpuEngine: the weights bound to their mapped bytes, the small vectors in f32, kernels and threads.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/read_ahead.h"
#include "base/thread_pool.h"
#include "model/rope.h"
#include "model/weights.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/weight_check.h"
#include "runtime/cpu/workspace.h"
#include "runtime/device_engine.h"
#include "tqkv/engine.h"

namespace tqkv::cpu {

/// The vectors of a layer, in f32 and in the order that the kernels read.
struct LayerVectors {
  std::vector<float> input_layernorm, post_attention_layernorm;  // [H]
  std::vector<float> q_norm, k_norm;                             // [head_dim]
  std::vector<float> conv1d;                                     // [kernel, conv_dim]
  std::vector<float> negative_exp_A;                             // -exp(A_log) [value heads]
  std::vector<float> dt_bias;                                    // [value heads]
  std::vector<float> norm;                                       // [linear_value_head_dim]
};

class CpuEngine final : public DeviceEngine {
 public:
  CpuEngine(Checkpoint checkpoint, const DeviceOptions& options);
  DeviceReport device() const override { return report_; }
  std::unique_ptr<DeviceState> make_state(const KvFormat& format, StateType type) const override;
  std::uint64_t growth(std::span<const Piece> pieces) const override;
  bool pass(std::span<const Piece> pieces, const std::atomic<bool>* stop) const override;
  void run_tasks(int count, const std::function<void(int)>& task) const override;

  const Weights& weights() const { return weights_; }
  const LayerVectors& vectors(int layer) const { return vectors_[static_cast<std::size_t>(layer)]; }
  const std::vector<float>& final_norm() const { return final_norm_; }
  const RotaryAngles& rotary() const { return rotary_; }
  const Kernels& kernels() const { return *kernels_; }
  ThreadPool& pool() const { return *pool_; }
  WeightCheck& weight_check() const { return *weight_check_; }
  Workspaces& workspaces() const { return *workspaces_; }

 private:
  /// Working memory of a pass over `pieces`.
  WorkSize work_size(std::span<const Piece> pieces) const;

  Weights weights_;
  std::vector<LayerVectors> vectors_;
  std::vector<float> final_norm_;  // [H]
  RotaryAngles rotary_;
  const Kernels* kernels_;
  DeviceReport report_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<WeightCheck> weight_check_;
  std::unique_ptr<ReadAhead> read_ahead_;
  std::unique_ptr<Workspaces> workspaces_;
};

}  // namespace tqkv::cpu
