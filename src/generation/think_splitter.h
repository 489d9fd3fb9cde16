// ThinkSplitter: tells the text inside <think> … </think> from the answer while ids come in.
#pragma once
#include <optional>
#include <string>

#include "generation/stop_strings.h"
#include "tqkv/generate.h"
#include "tqkv/tokenizer.h"

namespace tqkv {

/// Text goes to the sink without the markers and without the blank lines that the markup puts around them. The answer
/// ends before a stop string.
class ThinkSplitter {
 public:
  ThinkSplitter(const Tokenizer& tokenizer, const GenerateOptions& options, const TextSink& sink);
  void push(int id);
  void finish();
  bool thinking() const { return part_ == Part::thinking; }
  /// The stop string that ended the answer; empty: none.
  const std::string& stop_string() const { return stops_.found(); }
  const std::string& text(Part part) const { return part == Part::thinking ? thinking_ : answer_; }

 private:
  void emit(const std::string& text);
  void deliver(const std::string& text);
  void turn(Part part);

  StreamingDetokenizer detokenizer_;
  StopStrings stops_;
  const TextSink& sink_;
  bool skip_special_;
  const Tokenizer* tokenizer_;
  std::optional<int> open_, close_;
  Part part_;
  std::string blanks_;  // line breaks of thinking that the end of the block may still swallow
  bool trim_;           // at the start of a part: leading line breaks are markup
  std::string thinking_, answer_;
};

}  // namespace tqkv
