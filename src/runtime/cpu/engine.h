// CpuEngine: the weights bound to their mapped bytes, the small vectors in f32, kernels and threads.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/read_ahead.h"
#include "base/thread_pool.h"
#include "model/rope.h"
#include "model/weights.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/weight_check.h"
#include "runtime/cpu/workspace.h"
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

class CpuEngine final : public Engine {
 public:
  CpuEngine(Checkpoint checkpoint, const DeviceOptions& options);
  std::unique_ptr<Session> open(const KvFormat& format, const SessionOptions& options) const override;
  std::unique_ptr<Session> restore(const SavedSession& saved, const SessionOptions& options) const override;
  void step(std::span<Work> work) const override;
  const ModelConfig& config() const override { return config_; }
  const Checkpoint& checkpoint() const override { return checkpoint_; }
  DeviceReport device() const override;

  /// Of the checkpoint, computed when it is asked for first.
  const std::string& fingerprint() const;
  const Weights& weights() const { return weights_; }
  const LayerVectors& vectors(int layer) const { return vectors_[static_cast<std::size_t>(layer)]; }
  const std::vector<float>& final_norm() const { return final_norm_; }
  const RotaryAngles& rotary() const { return rotary_; }
  const Kernels& kernels() const { return *kernels_; }
  Precision precision() const { return precision_; }
  ThreadPool& pool() const { return *pool_; }
  WeightCheck& weight_check() const { return *weight_check_; }
  const MemoryGuard& guard() const { return guard_; }
  Workspaces& workspaces() const { return *workspaces_; }

 private:
  Checkpoint checkpoint_;
  std::string config_json_;
  ModelConfig config_;
  Weights weights_;
  std::vector<LayerVectors> vectors_;
  std::vector<float> final_norm_;  // [H]
  RotaryAngles rotary_;
  const Kernels* kernels_;
  Precision precision_;
  MemoryGuard guard_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<WeightCheck> weight_check_;
  std::unique_ptr<ReadAhead> read_ahead_;
  std::unique_ptr<Workspaces> workspaces_;
  mutable std::once_flag fingerprinted_;
  mutable std::string fingerprint_;
};

}  // namespace tqkv::cpu
