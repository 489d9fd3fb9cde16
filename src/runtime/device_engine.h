// DeviceEngine: the half of an Engine that knows no device: opening and restoring sessions, and steps over several of
// them. A device has weights, states and one pass.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "runtime/device_state.h"
#include "tqkv/engine.h"

namespace tqkv {

/// Steps of one session whose ids the device draws: one more is queued before the last one's id is read. Gone before
/// its end, it takes back what was not waited for.
class AheadRun {
 public:
  virtual ~AheadRun() = default;
  /// Begins the next step, which appends the id drawn last, the first time the one that was given.
  virtual void queue() = 0;
  /// The id that the oldest step drew which was not waited for. Throws what went wrong in it: the session then has the
  /// tokens before it.
  virtual int wait() = 0;
  /// Takes back what was not waited for, and writes the logits [vocab] of the last step that was.
  virtual void end(float* logits) = 0;
};

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
  /// others. A device that can leave a pass looks at `stop`, where it is given: false when it did, with every state as
  /// it was.
  virtual bool pass(std::span<const Piece> pieces, const std::atomic<bool>* stop) const = 0;
  /// Steps from a piece of one id on; null where the device does not draw as `sampler` does.
  virtual std::unique_ptr<AheadRun> run_ahead(const Piece& first, const Sampler& sampler) const {
    static_cast<void>(first), static_cast<void>(sampler);
    return nullptr;
  }
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
