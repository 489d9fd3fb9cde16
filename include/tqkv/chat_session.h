// ChatSession: a conversation over one session. A turn computes its new tokens alone, and turns can be taken back
// although a recurrent state cannot be cut. The turns are the text; the session is brought to their end when it is
// needed, from the nearest state that was kept. Implemented in src/generation.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tqkv/chat.h"
#include "tqkv/engine.h"
#include "tqkv/generate.h"
#include "tqkv/kv_format.h"
#include "tqkv/memory_plan.h"
#include "tqkv/model.h"
#include "tqkv/tokenizer.h"

namespace tqkv {

/// Used by one thread at a time.
class ChatSession {
 public:
  using Open = std::function<std::unique_ptr<Session>()>;
  using Progress = std::function<bool(int done, int total)>;  ///< of what is computed again; false stops

  /// `open` gives empty sessions, all alike. `snapshot_budget`: bytes of copies of the recurrent state that are kept,
  /// so that little is computed again: the beginning of the turn that is underway first, then the ends of the chunks of
  /// its prompt and the beginnings of the turns before it, fewer the further they are from its end, and last the chunks
  /// of earlier prompts. A budget that has no room for one keeps none, except of an adopted session.
  /// `cuts` are those of every prompt, whatever say() is given.
  ChatSession(Open open, std::uint64_t snapshot_budget, CutRule cuts = {});

  /// At the end of the text, which may have to be computed.
  const Session& session();
  /// Brings the session to the end of the text. Progress is asked after every chunk or token; false when it stopped.
  bool catch_up(const Progress& progress = {}) { return catch_up(progress, {}); }
  /// Of the session as it is, which after undo() may hold more than the text.
  CacheReport cache() const { return session_->cache(); }
  int position() const;  ///< tokens of the text, the pending ones apart
  int turns() const { return static_cast<int>(turns_.size()); }
  /// Whether the conversation resumes a session that was not begun here.
  bool adopted() const { return !base_.empty(); }
  int snapshots() const { return static_cast<int>(kept_.size()); }
  std::uint64_t snapshot_bytes() const;
  /// The last id of the text, fed or not; nothing before the first one.
  std::optional<int> last_id() const;
  const std::vector<int>& pending() const { return pending_; }  ///< ids of the text that were not fed

  /// `turns`, rendered as a conversation of their own, as they stand after what there is: encode() makes them the
  /// prompt of say(). A system message belongs into the first ones alone.
  std::vector<ChatPiece> placed(std::vector<ChatPiece> turns, const Tokenizer& tokenizer) const;
  /// One turn: feeds `prompt` after what there is and generates. A turn whose prompt was not read to its end
  /// (cancelled), or that fails, leaves nothing behind. Where it begins like one that was taken back or left nothing
  /// behind, it resumes from the last chunk that was kept of that; the statistics count what was fed. Throws what
  /// generate() throws.
  GenerateResult say(const Tokenizer& tokenizer, std::span<const int> prompt, const GenerateOptions& options,
                     const TextSink& sink = {});

  /// Takes the last turn back: what follows has the bits that it would have without it. False when there is none.
  /// Nothing is computed before the session is needed.
  bool undo();
  /// Begins again.
  void reset();
  /// Resumes a session that has tokens, with the ids that belong to its text but were not fed. A copy of its
  /// state, which nothing could compute again, is kept whatever the budget, and counts.
  void adopt(std::unique_ptr<Session> session, std::vector<int> pending);
  /// The same text computed again with sessions of `open`; `first_prompt` instead of that of the first turn. Progress
  /// is asked after every chunk; false when it stopped. Then, and when it throws, the conversation is as it was; only
  /// the copies of states were let go, so that those of two sessions take no more than the budget.
  bool rebuild(Open open, std::optional<std::vector<int>> first_prompt, const Progress& progress);

 private:
  struct Turn {
    int position = 0;         // tokens held before it
    std::vector<int> before;  // pending before it, first of its prompt
    std::vector<int> ids;     // prompt and answer without its last id, which is not fed
    std::size_t prompt = 0;   // of `ids`
    std::size_t at_once = 0;  // of `ids`, fed by one call; the others one by one
  };
  struct Kept {
    std::unique_ptr<Snapshot> snapshot;
    int begin = 0;  // of the call that it was taken in: chunks are counted from there
  };
  using KeptStates = std::map<int, Kept>;  // by position

  bool catch_up(const Progress& progress, std::span<const int> next, const std::atomic<bool>* stop = nullptr);
  void go_back(std::span<const int> next);
  bool feed(int begin, std::span<const int> ids, std::size_t at_once, const std::function<bool()>& go_on,
            const std::atomic<bool>* stop);
  void keep(int begin);
  bool make_room(std::uint64_t bytes, int begin);
  KeptStates::iterator least_needed(int begin);
  bool stays(int position) const { return base_given_ && position == static_cast<int>(base_.size()); }

  Open open_;
  CutRule cuts_;
  std::uint64_t budget_;
  std::unique_ptr<Session> session_;
  std::vector<int> base_;        // ids of the adopted session
  bool base_given_ = false;      // computed elsewhere: the state at its end stays kept
  KeptStates kept_;              // of the past of session_
  std::uint64_t kept_size_ = 0;  // bytes of the largest so far
  std::vector<Turn> turns_;
  std::vector<int> pending_;
};

/// What a ChatSession of `format` takes: `request` with as many snapshots as the budget has room for, and one of an
/// `adopted` session whatever the budget.
MemoryPlan plan_chat(const Model& model, const KvFormat& format, PlanRequest request, std::uint64_t snapshot_budget,
                     bool adopted);

}  // namespace tqkv
