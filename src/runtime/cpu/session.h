// CpuSession: one timeline of tokens and its state on the CPU. Passes run on the engine's workspace.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/cpu/batch.h"
#include "runtime/cpu/engine.h"
#include "runtime/cpu/state.h"
#include "runtime/memory_watch.h"
#include "tqkv/engine.h"

namespace tqkv::cache {
struct SessionTensor;
class SessionReader;
class SessionWriter;
}  // namespace tqkv::cache

namespace tqkv::cpu {

class CpuSession final : public Session {
 public:
  CpuSession(const CpuEngine& engine, const KvFormat& format, const SessionOptions& options);
  std::span<const float> prefill(std::span<const int> ids, const PrefillOptions& options) override;
  std::span<const float> decode(int id) override;
  int position() const override { return position_; }
  int context() const override { return context_; }
  std::unique_ptr<Snapshot> snapshot() const override;
  void restore(const Snapshot& snapshot) override;
  void observe(Observer* observer) override { observer_ = observer; }
  std::span<const int> ids() const override { return ids_; }
  std::span<const float> logits() const override;
  CacheReport cache() const override;
  void save(const std::filesystem::path& path, const SavedText& text) const override;
  /// Goes on from a saved session: of one that has just been opened with its format and state. Throws Error(session).
  void load(const SavedSession& saved);

  // ---- for passes of the engine

  const CpuEngine& engine() const { return engine_; }
  int chunk() const { return chunk_; }
  /// Throws Error(input) for ids that are none, or that do not fit.
  void check(std::span<const int> ids) const;
  /// Working memory of passes in which this session has `rows` rows.
  WorkSize work_size(int rows) const;
  /// Throws Error(memory) where the machine has no room for a pass that adds `tokens`, its workspace as large as
  /// `work`. Then makes the room.
  void require_room(int tokens, const WorkSize& work);
  Segment segment(std::span<const int> ids);
  /// A pass has added `ids`; there are no logits yet.
  void added(std::span<const int> ids);
  /// Where the logits of its last id belong [vocab].
  std::span<float> logits_room();

 private:
  void load_pages(const cache::SessionTensor& tensor, const cache::SessionReader& reader,
                  std::span<const cache::SessionTensor> layout);
  void load_tensor(const cache::SessionTensor& tensor, std::span<const std::byte> bytes);
  void save_tensor(const cache::SessionTensor& tensor, const SavedText& text, cache::SessionWriter& writer) const;

  const CpuEngine& engine_;
  int context_;
  int chunk_;
  CpuState state_;
  int position_ = 0;
  std::vector<int> ids_;       // [position]
  std::vector<float> logits_;  // [vocab] of the last id, or none
  MemoryWatch watch_;
  Observer* observer_ = nullptr;
};

}  // namespace tqkv::cpu
