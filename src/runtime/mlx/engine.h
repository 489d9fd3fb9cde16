// MlxEngine: the weights as arrays of MLX, and one thread that speaks with it.
#pragma once
#include <optional>

#include "model/rope.h"
#include "runtime/device_engine.h"
#include "runtime/mlx/pace.h"
#include "runtime/mlx/paths.h"
#include "runtime/mlx/thread.h"
#include "runtime/mlx/weights.h"

namespace tqkv::mlx {

class MlxEngine final : public DeviceEngine {
 public:
  MlxEngine(Checkpoint checkpoint, const DeviceOptions& options);
  /// With other kernels or another precision than the device's own, for tests.
  MlxEngine(Checkpoint checkpoint, const DeviceOptions& options, Paths paths, Precision precision);
  ~MlxEngine() override;
  DeviceReport device() const override;
  std::unique_ptr<DeviceState> make_state(const KvFormat& format, StateType type) const override;
  std::uint64_t growth(std::span<const Piece> pieces) const override;
  bool pass(std::span<const Piece> pieces, const std::atomic<bool>* stop) const override;
  std::unique_ptr<AheadRun> run_ahead(const Piece& first, const Sampler& sampler) const override;
  void run_tasks(int count, const std::function<void(int)>& task) const override;

  MlxThread& thread() const { return thread_; }
  const Arrays& arrays() const { return *arrays_; }
  const RotaryAngles& rotary() const { return rotary_; }
  Pace& pace() const { return pace_; }
  Paths& paths() const { return paths_; }

 private:
  mutable MlxThread thread_;
  mutable Pace pace_;  // of that thread
  DeviceReport report_;
  mutable Paths paths_;
  RotaryAngles rotary_;
  std::optional<Arrays> arrays_;
};

}  // namespace tqkv::mlx
