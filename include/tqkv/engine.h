// tqkv in two nouns. An Engine is a checkpoint made ready on one device: immutable, shared by many Sessions, outliving
// them. A Session is one mutable timeline of tokens on an engine: its position, the KV cache of the attention layers
// and the recurrent state of the linear layers. A Session is used by one thread at a time. Implemented in src/runtime.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tqkv/checkpoint.h"
#include "tqkv/device.h"
#include "tqkv/error.h"
#include "tqkv/kv_format.h"
#include "tqkv/model_config.h"

namespace tqkv {

/// Element type of the recurrent state between steps.
enum class StateType { f32, bf16 };
std::string_view name(StateType type);

struct SessionOptions {
  int context = 0;           ///< most tokens this session may have; 0: the model's native context
  int prefill_chunk = 2048;  ///< tokens of one forward pass
  StateType state = StateType::f32;
};

/// Bytes of one session's cache, by kind. `used` counts tokens, `allocated` whole pages.
struct CacheBytes {
  std::uint64_t kv_used = 0;
  std::uint64_t kv_allocated = 0;
  std::uint64_t kv_shared = 0;    ///< of kv_allocated: in pages that other sessions hold too
  std::uint64_t recurrent = 0;    ///< delta-net state
  std::uint64_t convolution = 0;  ///< last inputs of the causal convolution
  std::uint64_t state() const { return recurrent + convolution; }
  std::uint64_t used() const { return kv_used + state(); }
  std::uint64_t allocated() const { return kv_allocated + state(); }
};

struct LayerCache {
  int layer = 0;
  SideFormat k, v;  ///< as stored, not as asked
};

/// Bits of the activations that products use when many tokens come at once: integers of 8 or 16 bits in fast
/// precision, floats of 32 in f32. What is not named here uses the most.
struct ActivationBits {
  int expert_input = 16;  ///< gate_proj and up_proj of the routed experts
  int tolerant = 16;  ///< down_proj of the routed experts, the shared expert, q_proj, o_proj, q and k of the delta net
};

struct CacheReport {
  KvFormat format;  ///< effective
  StateType state = StateType::f32;
  int tokens = 0;
  CacheBytes bytes;
  std::vector<LayerCache> layers;  ///< attention layers only
  ActivationBits activations;      ///< chosen by the format: coarse codes want finer activations
  double encode_s = 0;             ///< seconds spent so far on encoding keys and values into pages
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

struct PrefillOptions {
  /// Called with every row of logits [vocab] and its index in `ids`, from `first_row` on; without it only the last row
  /// is computed.
  std::function<void(int row, std::span<const float> logits)> rows;
  int first_row = 0;
  /// Called after every chunk with the number of ids done; returning false stops there.
  std::function<bool(int done)> progress;
};

/// Position and recurrent state; KV pages are append-only, so that going back is cutting them off.
class Snapshot {
 public:
  virtual ~Snapshot() = default;
  virtual int position() const = 0;
  virtual std::uint64_t bytes() const = 0;
};

/// How the text of a session continues, for whoever finds it on disk.
enum class NextText {
  raw,          ///< right after the last token
  question,     ///< inside the turn of a user, after a blank line: what is asked about the text before it comes next
  conversation  ///< after the turn of an assistant, or what there is of it
};
std::string_view name(NextText next);

/// What is saved with a session.
struct SavedText {
  NextText next = NextText::raw;
  std::vector<int> pending = {};  ///< ids that belong to the text but were not fed: the last one that was sampled
};

class SavedSession;
class Sampler;  // sampling.h

class Session {
 public:
  virtual ~Session() = default;
  /// Appends `ids` in chunks. Returns logits [vocab] of the last id (empty when progress stopped it): valid until the
  /// next call. Throws Error(input) for an id out of range or when the context would overflow, Error(memory) when the
  /// guard finds no room for the next chunk: the session then has the chunks before it.
  virtual std::span<const float> prefill(std::span<const int> ids, const PrefillOptions& options = {}) = 0;
  /// Appends one id and returns logits [vocab]. Throws Error(memory) like prefill(), with nothing changed.
  virtual std::span<const float> decode(int id) = 0;
  virtual int position() const = 0;  ///< tokens in the session
  virtual int context() const = 0;   ///< most tokens it may have
  /// The tokens of the session [position].
  virtual std::span<const int> ids() const = 0;
  /// Logits [vocab] of the last id, until the next call; empty where there are none: before the first id, after
  /// restore() and when progress stopped a prefill.
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

/// What a session wants of a step besides having its tokens: the logits of the last one, or an id drawn from them.
enum class Want { nothing, logits, id };

/// One session's part of a step, and what became of it.
struct Work {
  Session* session = nullptr;
  std::span<const int> ids;  ///< appended; at most the session's prefill_chunk
  Want want = Want::logits;
  Sampler* sampler = nullptr;          ///< draws the id, where one is wanted: that of the next position
  std::optional<Error> error = {};     ///< why it was refused: the session is as it was, but where no id could be drawn
  std::span<const float> logits = {};  ///< [vocab] of the last id, where wanted: the session's, until its next call
  int id = -1;                         ///< where wanted
};

class Engine {
 public:
  /// Takes over the checkpoint, checks every tensor against its config and readies the device.
  static std::unique_ptr<Engine> load(Checkpoint checkpoint, const DeviceOptions& options = {});
  virtual ~Engine() = default;
  /// Throws Error(format) when the format does not fit the model; nothing is replaced in silence.
  virtual std::unique_ptr<Session> open(const KvFormat& format, const SessionOptions& options = {}) const = 0;
  /// Opens a session that resumes a saved one: on the same device with the same bits as if it had never
  /// been saved. Its format and the type of its state are those of the file. Throws Error(session) when it was computed
  /// with another model or precision, when its bytes are not those that were saved or cannot be such; Error(input) when
  /// the context that is asked for is shorter than its tokens.
  virtual std::unique_ptr<Session> restore(const SavedSession& saved, const SessionOptions& options = {}) const = 0;
  /// Opens a session that begins where `session` was at `snapshot`, one of its own, and has the bits that `session`
  /// would have from there. The full pages of keys and values are shared by both. Either can go, or go back, before the
  /// other.
  virtual std::unique_ptr<Session> fork(const Session& session, const Snapshot& snapshot,
                                        const SessionOptions& options = {}) const = 0;
  /// One pass over the weights for several sessions: decoded tokens and pieces of prompts, of any formats. Every
  /// session has the bits that prefill() or decode() of its ids alone would give it. A part that cannot be done gets
  /// its own error, and the others go on. Sessions are of this engine, each at most once, and not in use elsewhere.
  virtual void step(std::span<Work> work) const = 0;
  virtual const ModelConfig& config() const = 0;
  virtual const Checkpoint& checkpoint() const = 0;
  virtual DeviceReport device() const = 0;
};

}  // namespace tqkv
