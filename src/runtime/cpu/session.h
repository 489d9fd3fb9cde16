// CpuSession: position, KV pages and recurrent state of one timeline, and the memory its forward passes work in.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/cpu/engine.h"
#include "runtime/cpu/layer_cache.h"
#include "runtime/cpu/work_buffers.h"
#include "runtime/memory_watch.h"
#include "tqkv/engine.h"

namespace tqkv::cache {
struct SessionTensor;
class SessionReader;
class SessionWriter;
}  // namespace tqkv::cache

namespace tqkv::cpu {

/// Floats kept between forward passes, as f32 or bf16.
class StateArray {
 public:
  StateArray(std::size_t size, bool bf16) : bf16_(bf16), bytes_(size * (bf16 ? 2 : 4)) {}
  void load(std::size_t first, std::size_t count, float* out) const;
  void store(std::size_t first, std::size_t count, const float* values);
  /// The floats themselves when they are f32, else null.
  float* f32(std::size_t first);
  std::uint64_t bytes() const { return bytes_.size(); }
  /// As they are kept.
  std::span<std::byte> raw() { return bytes_; }
  std::span<const std::byte> raw() const { return bytes_; }

 private:
  bool bf16_;
  std::vector<std::byte> bytes_;
};

/// What a linear layer remembers.
struct LayerState {
  StateArray recurrent;    // [value heads, value_head_dim, key_head_dim]
  StateArray convolution;  // [kernel - 1, conv_dim], oldest first
};

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

 private:
  friend class Forward;
  std::span<const float> keep_logits(std::span<const float> logits);
  void load_pages(const cache::SessionTensor& tensor, const cache::SessionReader& reader,
                  std::span<const cache::SessionTensor> layout);
  void load_tensor(const cache::SessionTensor& tensor, std::span<const std::byte> bytes);
  void save_tensor(const cache::SessionTensor& tensor, const SavedText& text, cache::SessionWriter& writer) const;
  WorkSize work_size(int chunk) const;
  void check(std::span<const int> ids) const;
  /// Throws Error(memory) where the machine has no room for a forward pass over `tokens` more.
  void require_room(int tokens);
  /// Of `format`, with its S, made where there is none like it yet.
  codec::SideCodec codec_of(const SideFormat& format);

  const CpuEngine& engine_;
  KvFormat format_;  // effective
  int context_;
  int chunk_;
  StateType state_type_;
  ActivationBits activations_;
  int position_ = 0;
  std::vector<int> ids_;     // [position]
  bool has_logits_ = false;  // of the last id, in the work buffers
  double encode_seconds_ = 0;
  std::vector<std::unique_ptr<codec::SignMatrix>> matrices_;  // S of keys and of values, where they keep signs
  std::vector<LayerCacheStore> caches_;                       // attention layers, in order
  std::vector<LayerState> states_;                            // linear layers, in order
  WorkBuffers work_;
  int touched_ = 0;  // most tokens of a forward pass so far: working memory is taken when it is first touched
  MemoryWatch watch_;
  Observer* observer_ = nullptr;
};

}  // namespace tqkv::cpu
