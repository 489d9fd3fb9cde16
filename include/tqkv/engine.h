// Engine: a checkpoint made ready on one device: immutable, shared by many Sessions, outliving them. Implemented in
// src/runtime.
#pragma once
#include <memory>
#include <optional>
#include <span>

#include "tqkv/checkpoint.h"
#include "tqkv/device.h"
#include "tqkv/error.h"
#include "tqkv/kv_format.h"
#include "tqkv/model_config.h"
#include "tqkv/session.h"

namespace tqkv {

class Sampler;  // sampling.h

/// What a session wants of a step, apart from having its tokens: the logits of the last one, or an id drawn from them.
enum class Want { nothing, logits, id };

/// One session's part of a step, and what became of it.
struct Work {
  Session* session = nullptr;
  std::span<const int> ids;  ///< appended; at most the session's prefill_chunk
  Want want = Want::logits;
  Sampler* sampler = nullptr;          ///< draws the id, where one is wanted: that of the next position
  Pieces pieces = {};                  ///< of the ids, of which all go into one pass: Pieces::next_pass()
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
  /// would have from there. Where that is its end, the logits are there too. The full pages of keys and values are
  /// shared by both. Either can go, or go back, before the other.
  virtual std::unique_ptr<Session> fork(const Session& session, const Snapshot& snapshot,
                                        const SessionOptions& options = {}) const = 0;
  /// One pass over the weights for several sessions: decoded tokens and pieces of prompts, of any formats. Every
  /// session has the bits that prefill() or decode() of its ids alone would give it. A part that cannot be done gets
  /// its own error, and the others continue. Sessions are of this engine, each at most once, and not in use elsewhere.
  virtual void step(std::span<Work> work) const = 0;
  virtual const ModelConfig& config() const = 0;
  virtual const Checkpoint& checkpoint() const = 0;
  virtual DeviceReport device() const = 0;
};

}  // namespace tqkv
