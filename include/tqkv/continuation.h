// Continuation: where a text comes: at the beginning, or after that of a saved session. Implemented in src/generation.
#pragma once
#include <vector>

#include "tqkv/chat.h"
#include "tqkv/engine.h"
#include "tqkv/saved_session.h"
#include "tqkv/tokenizer.h"

namespace tqkv {

class Continuation {
 public:
  /// At the beginning.
  Continuation() = default;
  /// After the text of `saved`.
  Continuation(const SavedSession& saved, const Tokenizer& tokenizer);

  /// Whether the text there is continues without chat markup.
  bool raw() const { return next_ == NextText::raw; }
  /// Tokens of the session, which are not fed again.
  int tokens() const { return tokens_; }
  /// `turns` of a conversation, the first one of a user, as they stand here.
  std::vector<ChatPiece> placed(std::vector<ChatPiece> turns) const;
  /// What has to be fed for a text with these ids: before them, what was saved with the session but not fed.
  std::vector<int> ids(std::vector<int> ids) const;

 private:
  bool saved_ = false, turn_ended_ = false;
  NextText next_ = NextText::conversation;
  int tokens_ = 0;
  std::vector<int> pending_;
};

/// Turns that are stored, and how the text after them continues.
struct StoredTurns {
  std::vector<ChatPiece> pieces;
  NextText next = NextText::raw;
};
/// `turns` as they are stored for a question to come: inside the last one, which is a user's, or where they are `whole`
/// after it.
StoredTurns stored_turns(std::vector<ChatPiece> turns, bool whole);

}  // namespace tqkv
