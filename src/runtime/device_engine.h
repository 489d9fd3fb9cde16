// DeviceEngine: the half of an Engine that knows no device: opening and restoring sessions, and steps over several of
// them. A device has weights, states and one pass.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "runtime/device_state.h"
#include "tqkv/engine.h"

namespace tqkv {

class DeviceEngine : public Engine {
 public:
  DeviceEngine(Checkpoint checkpoint, Precision precision, MemoryGuard guard);
  std::unique_ptr<Session> open(const KvFormat& format, const SessionOptions& options) const final;
  std::unique_ptr<Session> restore(const SavedSession& saved, const SessionOptions& options) const final;
  std::unique_ptr<Session> fork(const Session& session, const Snapshot& snapshot,
                                const SessionOptions& options) const final;
  void step(std::span<Work> work) const final;
  const ModelConfig& config() const final { return config_; }
  const Checkpoint& checkpoint() const final { return checkpoint_; }

  /// Of the checkpoint, computed when it is asked for first.
  const std::string& fingerprint() const;
  Precision precision() const { return precision_; }
  const MemoryGuard& guard() const { return guard_; }

  // ---- what a device has

  virtual std::unique_ptr<DeviceState> make_state(const KvFormat& format, StateType type) const = 0;
  /// Bytes of working memory that a pass would take beyond those that passes have taken before.
  virtual std::uint64_t growth(std::span<const Piece> pieces) const = 0;
  /// Through all layers: afterwards every state has the tokens of its piece. Bits of a piece do not depend on the
  /// others.
  virtual void pass(std::span<const Piece> pieces) const = 0;
  /// Runs task(0) to task(count - 1), several at a time where there are threads. Tasks do not throw.
  virtual void run_tasks(int count, const std::function<void(int)>& task) const = 0;

 private:
  Checkpoint checkpoint_;
  std::string config_json_;
  ModelConfig config_;
  Precision precision_;
  MemoryGuard guard_;
  mutable std::once_flag fingerprinted_;
  mutable std::string fingerprint_;
};

}  // namespace tqkv
