// Timeline: the Session of every device. It has the position, the ids and the logits; what layers remember is the
// device's state.
#pragma once
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/device_engine.h"
#include "runtime/plan/memory_watch.h"
#include "tqkv/engine.h"

namespace tqkv {

/// Throws Error(internal) for cuts that are not of so many ids.
void check_cuts(const Pieces& pieces, std::size_t ids, std::string_view what);

class Timeline final : public Session {
 public:
  Timeline(const DeviceEngine& engine, const KvFormat& format, const SessionOptions& options);
  /// With a state that is there already.
  Timeline(const DeviceEngine& engine, std::unique_ptr<DeviceState> state, const SessionOptions& options);
  std::span<const float> prefill(std::span<const int> ids, const PrefillOptions& options) override;
  std::span<const float> decode(int id) override;
  void run(int first, Sampler& sampler, int count, const std::function<bool(int id)>& next) override;
  int position() const override { return position_; }
  int context() const override { return context_; }
  std::span<const int> ids() const override { return ids_; }
  std::span<const float> logits() const override;
  std::unique_ptr<Snapshot> snapshot() const override;
  void restore(const Snapshot& snapshot) override;
  void observe(Observer* observer) override { observer_ = observer; }
  CacheReport cache() const override;
  void save(const std::filesystem::path& path, const SavedText& text) const override;
  /// Resumes a saved session: of one that has just been opened with its format and state. Throws Error(session).
  void load(const SavedSession& saved);
  std::unique_ptr<Timeline> fork(const Snapshot& snapshot, const SessionOptions& options) const;
  /// Tokens that have stood since the session had been through `cuts` restores: a snapshot of then that has more is of
  /// tokens that are others now.
  int kept_since(std::size_t cuts) const;

  // ---- a pass, in this order

  const DeviceEngine& engine() const { return engine_; }
  int chunk() const { return chunk_; }
  /// Throws Error(input) for no ids, for ids that are none, and for more than fit.
  void check(std::span<const int> ids, std::string_view what) const;
  Piece piece(std::span<const int> ids);
  /// `ids` of a pass, as pieces with room for the snapshots that are wanted; `done`: ids of the cuts that came before.
  struct Part {
    std::vector<Piece> pieces;
    std::vector<std::unique_ptr<DeviceSnapshot>> kept;  // of the pieces, null where none is wanted
  };
  Part part(std::span<const int> ids, const Pieces& cuts, int done);
  /// Throws Error(memory) where the machine has no room for a pass over `pieces`, of which the last `own` are this
  /// session's; then makes room for their tokens. `promised`: bytes that the sessions before it will touch in the same
  /// pass; returns those of this one.
  std::uint64_t require_room(std::span<const Piece> pieces, std::size_t own = 1, std::uint64_t promised = 0);
  /// Logits are those of the pass from here on: where they belong [vocab], or null where none are wanted.
  float* begin(bool wants_logits);
  void added(std::span<const int> ids);
  /// The same for a part of a pass, whose snapshots `keep` takes.
  void added(Part& part, const Pieces& cuts);

 private:
  const DeviceEngine& engine_;
  int context_;
  int chunk_;
  std::unique_ptr<DeviceState> state_;
  int position_ = 0;
  std::vector<int> ids_;  // [position]
  /// A restore, and the position that it went back to.
  struct Cut {
    std::size_t number;
    int position;
  };
  std::size_t cut_count_ = 0;
  std::vector<Cut> cuts_;      // those that no later one went behind: both numbers ascend
  std::vector<float> logits_;  // [vocab], once a pass wanted some
  bool wants_logits_ = false;  // of the pass under way
  bool has_logits_ = false;    // of the last id
  MemoryWatch watch_;
  Observer* observer_ = nullptr;
};

}  // namespace tqkv
