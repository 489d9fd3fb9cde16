// The recall set: every context and question as ids, the same for all caches.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "measure/recall/recall.h"
#include "measure/recall/tasks.h"
#include "tqkv/chat.h"
#include "tqkv/tokenizer.h"

namespace tqkv::measure {

/// A chat prompt of one user turn that is a context, a blank line and a question; the model answers at once.
class Markup {
 public:
  /// Throws Error(chat) for markup that does not keep the user's text in one piece.
  Markup(const Tokenizer& tokenizer, const ChatTemplate& chat);
  /// Ids up to the question. `context` is valid UTF-8.
  std::vector<int> before(const std::string& context) const;
  /// Ids of the question and of what follows up to the answer.
  std::vector<int> after(const std::string& question) const;
  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  const Tokenizer& tokenizer_;
  std::vector<ChatPiece> header_, footer_;
};

struct PreparedQuestion {
  RecallQuestion text;
  std::vector<int> ids;   // question, end of turn, header of the answer
  int answer_tokens = 0;  // of the expected answer
};
struct PreparedContext {
  RecallContext about;
  std::vector<int> ids;  // up to the question
  std::vector<PreparedQuestion> questions;
};

/// Lengths above this are of needles alone: the other tasks were trained on shorter contexts.
inline constexpr int longest_list = 4096;

/// Rounds of needle contexts of all lengths and one context of each other task, whose length changes from round to
/// round, until there are `options.answers` questions. `text` (valid UTF-8) gives filler and words. A needle context
/// has exactly the length asked up to the question, another one the most lines that fit. Throws Error(usage) for a
/// length that is too short for its task.
std::vector<PreparedContext> make_recall_set(const RecallOptions& options, std::string_view text, const Markup& markup);

/// Digest of every id of the set.
std::string digest_of(const std::vector<PreparedContext>& contexts);
/// Most tokens that a session holds for one of its questions.
int longest_session(std::span<const PreparedContext> contexts, AnswerMatch match);
/// Most tokens that the model may answer with.
int answer_limit(const PreparedQuestion& question, AnswerMatch match);

}  // namespace tqkv::measure
