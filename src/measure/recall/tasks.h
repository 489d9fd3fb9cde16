// The recall tasks as text: a context that grows line by line, and what can be asked about it. Wording as in the pocket
// model's training.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "measure/recall/draws.h"
#include "measure/recall/recall.h"
#include "measure/recall/words.h"

namespace tqkv::measure {

struct RecallQuestion {
  std::string question, answer;
  std::string value;  // the word of the answer that has to be remembered
  double depth = 0;   // needles: share of the text in front
};

/// A task whose context is `head`, then lines with `separator` between them. Any number of lines from `least` on will
/// do.
struct RecallLines {
  std::string head, separator;
  std::vector<std::string> lines;
  std::size_t least = 1;
  std::string text(std::size_t count) const;
};

/// Lines of a task other than needle, at most `most`.
RecallLines make_lines(RecallTask task, std::size_t most, const Vocabulary& vocabulary, Draws& draws);
/// Up to `count` different questions about the first `lines` lines.
std::vector<RecallQuestion> ask(RecallTask task, const RecallLines& all, std::size_t lines, std::size_t count,
                                Draws& draws);

/// Facts with names and values of their own, one a depth. `taken` are the values of other contexts, to which these are
/// added.
std::vector<RecallQuestion> make_needles(const std::vector<double>& depths, const Vocabulary& vocabulary, Draws& draws,
                                         std::vector<std::string>& taken);
/// `filler` with the answer of each needle at its depth, counted in bytes, as a line of its own.
std::vector<std::string> hide(const std::vector<std::string>& filler, const std::vector<RecallQuestion>& needles);

/// Endless lines around needles: those of a text from a random one on, once through, then made-up sentences. Lines
/// that could be taken for a needle are left out.
class Filler {
 public:
  Filler(const std::vector<std::string>& lines, const Vocabulary& vocabulary, Draws draws);
  /// The first `count` lines.
  std::vector<std::string> first(std::size_t count);
  const std::string& line(std::size_t index);
  /// The lines of a text that may be used.
  static std::vector<std::string> usable(std::string_view text);

 private:
  void grow(std::size_t count);
  const std::vector<std::string>& source_;
  const Vocabulary& vocabulary_;
  Draws draws_;
  std::size_t start_ = 0;
  std::vector<std::string> lines_;
};

/// Whether an answer is right: see AnswerMatch. Space around it does not count.
bool is_right(const RecallQuestion& question, std::string_view answer, AnswerMatch match);

}  // namespace tqkv::measure
