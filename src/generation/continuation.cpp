#include "tqkv/continuation.h"

#include <utility>

#include "tqkv/turns.h"

namespace tqkv {

Continuation::Continuation(const SavedSession& saved, const Tokenizer& tokenizer)
    : saved_(true),
      turn_ended_(end_of_turn(tokenizer) == saved.last_id()),
      next_(saved.text().next),
      tokens_(saved.tokens()),
      pending_(saved.text().pending) {}

std::vector<ChatPiece> Continuation::placed(std::vector<ChatPiece> turns) const {
  if (!saved_ || next_ == NextText::raw) return turns;
  return next_ == NextText::conversation ? next_turns(std::move(turns), turn_ended_) : rest_of_turn(std::move(turns));
}

std::vector<int> Continuation::ids(std::vector<int> ids) const {
  ids.insert(ids.begin(), pending_.begin(), pending_.end());
  return ids;
}

StoredTurns stored_turns(std::vector<ChatPiece> turns, bool whole) {
  if (whole) return {closed_turns(std::move(turns)), NextText::conversation};
  return {open_turns(std::move(turns)), NextText::question};
}

}  // namespace tqkv
