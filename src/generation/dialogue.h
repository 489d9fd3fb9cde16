// A conversation over one session: a turn computes its new tokens alone, and turns can be taken back although a
// recurrent state cannot be cut.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tqkv/engine.h"
#include "tqkv/generate.h"

namespace tqkv {

class Dialogue {
 public:
  using Open = std::function<std::unique_ptr<Session>()>;
  using Progress = std::function<bool(int done, int total)>;  ///< false stops

  /// `open` gives empty sessions, all alike. `snapshot_budget`: bytes of copies of the recurrent state that are kept,
  /// so that undo() need not compute anew; the beginning of the last turn first, then fewer the older they are.
  Dialogue(Open open, std::uint64_t snapshot_budget);

  const Session& session() const { return *session_; }
  int turns() const { return static_cast<int>(turns_.size()); }
  /// Whether the conversation goes on from a session that was not begun here.
  bool adopted() const { return base_ > 0; }
  int snapshots() const { return static_cast<int>(snapshots_.size()) + (base_snapshot_ ? 1 : 0); }
  std::uint64_t snapshot_bytes() const;
  /// The last id of the text, fed or not; nothing before the first one.
  std::optional<int> last_id() const;
  const std::vector<int>& pending() const { return pending_; }  ///< ids of the text that were not fed

  /// One turn: feeds `prompt` behind what there is and generates. A turn whose prompt was not read to its end
  /// (cancelled), or that fails, leaves nothing behind. Throws what generate() throws.
  GenerateResult say(const Tokenizer& tokenizer, std::span<const int> prompt, const GenerateOptions& options,
                     const TextSink& sink);

  /// Takes the last turn back: what follows has the bits that it would have without it. False when there is none.
  bool undo();
  /// Begins anew.
  void reset();
  /// Goes on from a session that holds tokens, with the ids that belong to its text but were not fed.
  void adopt(std::unique_ptr<Session> session, std::vector<int> pending);
  /// The same text computed anew with sessions of `open`; `first_prompt` instead of that of the first turn. Progress is
  /// asked after every chunk; false when it stopped, and then nothing has changed.
  bool rebuild(Open open, std::optional<std::vector<int>> first_prompt, const Progress& progress);

 private:
  struct Turn {
    int position = 0;                 // tokens held before it
    std::vector<int> pending;         // of the turn before, first of the prompt
    std::vector<int> prompt, answer;  // the last id of the answer is not fed
    bool at_once = false;             // fed in one piece, by rebuild()
  };

  void feed(const Turn& turn);
  void go_back(int position);
  void thin_out();

  Open open_;
  std::uint64_t budget_;
  std::unique_ptr<Session> session_;
  int base_ = 0;  // tokens of the adopted session
  std::vector<int> base_pending_, base_ids_;
  std::unique_ptr<Snapshot> base_snapshot_;
  std::map<int, std::unique_ptr<Snapshot>> snapshots_;  // by position: where turns begin
  std::vector<Turn> turns_;
  std::vector<int> pending_;
};

}  // namespace tqkv
