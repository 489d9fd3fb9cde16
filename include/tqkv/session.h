// Session: one mutable timeline of tokens on an engine: its position, the KV cache of the attention layers and the
// recurrent state of the linear layers. A Session is used by one thread at a time. Implemented in src/runtime.
#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>

#include "tqkv/cache_report.h"
#include "tqkv/saved_session.h"

namespace tqkv {

class Sampler;  // sampling.h

struct SessionOptions {
  int context = 0;           ///< most tokens this session may have; 0: the model's native context
  int prefill_chunk = 2048;  ///< tokens of one forward pass
  StateType state = StateType::f32;
};

/// Sees inside a forward pass, for evaluation. Rows are in token order, one call per chunk.
class Observer {
 public:
  virtual ~Observer() = default;
  /// hidden [tokens, hidden_size]: layer 0 is the embedding, layer i the stream after layer i; the last one is
  /// final-normed.
  virtual void hidden(int layer, std::span<const float> values, int tokens) = 0;
  /// Keys and values [tokens, kv heads, head_dim] of attention layer `layer` (index in the model) as they are before
  /// the cache encodes them: keys normalised and with RoPE.
  virtual void keys_values(int layer, std::span<const float> keys, std::span<const float> values, int tokens) {
    static_cast<void>(layer), static_cast<void>(keys), static_cast<void>(values), static_cast<void>(tokens);
  }
};

/// Position and recurrent state; KV pages are append-only, so that going back is cutting them off.
class Snapshot {
 public:
  virtual ~Snapshot() = default;
  virtual int position() const = 0;
  virtual std::uint64_t bytes() const = 0;
};

/// Where ids are cut into pieces. The bits of a session follow from its ids and its cuts, not from how many pieces a
/// pass over the weights takes: a piece is computed as if it were appended alone.
struct Pieces {
  std::span<const int> ends = {};  ///< ids before each cut, ascending, from 1 to the number of ids - 1
  std::span<const int> kept = {};  ///< those of them, or the number of ids, where a snapshot is wanted
  std::function<void(std::unique_ptr<Snapshot>)> keep = {};  ///< takes the snapshots, in order, after the pass

  /// How many of `ids` ids, from id `done` on, the next pass takes: the most whole pieces that have `most` ids
  /// together, or `most` of a longer piece. Pieces of fewer than 4 ids, which are computed another way, have a pass of
  /// their own.
  int next_pass(int ids, int done, int most) const;
};

struct PrefillOptions {
  /// Called with every row of logits [vocab] and its index in `ids`, from `first_row` on; without it only the last row
  /// is computed.
  std::function<void(int row, std::span<const float> logits)> rows;
  int first_row = 0;
  /// Called after every chunk with the number of ids done; returning false stops there.
  std::function<bool(int done)> progress;
  /// Looked at inside a chunk too, by a device that can leave one: the session then has the chunks before it.
  const std::atomic<bool>* stop = nullptr;
  Pieces pieces = {};  ///< a chunk is as many of them as fit
};

class Session {
 public:
  virtual ~Session() = default;
  /// Appends `ids` in chunks of at most prefill_chunk. Returns logits [vocab] of the last id (empty when it was
  /// stopped): valid until the next call. Throws Error(input) for an id out of range or when the context would
  /// overflow, Error(memory) when the guard finds no room for the next chunk: the session then has the chunks before
  /// it.
  virtual std::span<const float> prefill(std::span<const int> ids, const PrefillOptions& options = {}) = 0;
  /// Appends one id and returns logits [vocab]. Throws Error(memory) like prefill(), with nothing changed.
  virtual std::span<const float> decode(int id) = 0;
  /// Appends `first`, draws an id, appends that, draws the next one and so on: `count` ids, each handed to `next`,
  /// which ends it by returning false. The id that is drawn last is not appended. A device that draws ids itself
  /// computes the next step while `next` has this one's id: there, ids are those that decode() and `sampler` give where
  /// no two candidates tie to rounding, and `next` asks this session for nothing but position() and ids(). Throws as
  /// decode().
  virtual void run(int first, Sampler& sampler, int count, const std::function<bool(int id)>& next);
  virtual int position() const = 0;  ///< tokens in the session
  virtual int context() const = 0;   ///< most tokens it may have
  /// The tokens of the session [position].
  virtual std::span<const int> ids() const = 0;
  /// Logits [vocab] of the last id, until the next call; empty where there are none: before the first id, after
  /// restore() and when a prefill was stopped.
  virtual std::span<const float> logits() const = 0;
  virtual std::unique_ptr<Snapshot> snapshot() const = 0;
  /// Goes back to a snapshot of this session.
  virtual void restore(const Snapshot& snapshot) = 0;
  virtual void observe(Observer* observer) = 0;
  virtual CacheReport cache() const = 0;
  /// Writes every layer, the tokens, the last logits and what they were computed with to a file (docs/formats.md),
  /// which is complete under its name or not there: a failure leaves an older one as it was. Throws Error(io).
  virtual void save(const std::filesystem::path& path, const SavedText& text = {}) const = 0;
};

}  // namespace tqkv
