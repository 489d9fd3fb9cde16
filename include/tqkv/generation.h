// Generation: one answer, step by step, for those who drive several at once. Implemented in src/generation.
//
//   while (!generation.finished()) {
//     std::vector<Work> work{generation.work(256, Want::id), …};  // of other generations
//     engine.step(work);
//     generation.accept(work[0]), …
//   }
#pragma once
#include <limits>
#include <memory>
#include <span>

#include "tqkv/engine.h"
#include "tqkv/generate.h"
#include "tqkv/sampling.h"
#include "tqkv/tokenizer.h"

namespace tqkv {

/// Owns no loop, feeds no session and waits for nothing: it says what comes next, and takes what became of it. Then it
/// samples, stops, tells thinking from the answer and hands text to the sink. Move-only; used by one thread at a time.
class Generation {
 public:
  /// `session` and `tokenizer` outlive it; the session is fed with what next() gives and nothing else. Of an empty
  /// prompt, accept(session.logits()) is the first step. Throws as generate().
  Generation(Session& session, const Tokenizer& tokenizer, std::span<const int> prompt, const GenerateOptions& options,
             TextSink sink = {});
  Generation(Generation&&) noexcept;
  Generation& operator=(Generation&&) noexcept;
  ~Generation();

  bool finished() const;
  /// What the session is fed next: of the prompt, the pieces that are left but at most `most` ids; then the last id.
  /// Valid until the next call.
  std::span<const int> next(int most = std::numeric_limits<int>::max());
  /// All of the prompt that is left, for Session::prefill(), which makes passes of it; else the last id.
  std::span<const int> all();
  /// The cuts of what either gave, valid as long.
  const Pieces& pieces() const;
  /// What was drawn so far.
  std::span<const int> ids() const;
  /// Whether the prompt is not read to its end.
  bool reading() const;
  /// next() as a part of Engine::step, where `most` is at most the session's prefill_chunk. An id is drawn by the step
  /// for Want::id, which needs GenerateOptions::allowed, and by accept() for Want::logits. `most` changes no bit,
  /// unless it is less than CutRule::piece.
  Work work(int most, Want want = Want::logits);

  /// What became of work(). Throws the error of a part that was refused; but if memory runs out after the prompt, the
  /// answer ends there.
  void accept(const Work& done);
  /// Logits [vocab] of the last id of next(), when the prompt is read.
  void accept(std::span<const float> logits);
  /// The id that was drawn from them elsewhere, by sampler(). Throws Error(internal) for one that the grammar refuses.
  void accept(int id);
  /// For who draws elsewhere: what with, once the first id is there, and how many ids may still come.
  Sampler& sampler();
  int left() const;
  /// The step after an id was refused with `error`. Throws it again unless it is one of memory.
  void refuse(const Error& error);
  /// A part of the prompt was fed, by other means than accept(const Work&). False when the rest of it is not wanted.
  bool read_part();
  /// Ends it with what there is.
  void cancel();

  /// Text and statistics so far. Memory and faults are the process's: those who drive it know them.
  GenerateResult result() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tqkv
