#include "generation/think_splitter.h"

namespace tqkv {

ThinkSplitter::ThinkSplitter(const Tokenizer& tokenizer, const GenerateOptions& options, const TextSink& sink)
    : detokenizer_(tokenizer, options.skip_special),
      stops_(options.stop_strings),
      sink_(sink),
      skip_special_(options.skip_special),
      tokenizer_(&tokenizer),
      part_(options.split_thinking && options.opens_thinking ? Part::thinking : Part::answer),
      trim_(part_ == Part::thinking) {
  if (!options.split_thinking) return;
  open_ = tokenizer.control_id("<think>");
  close_ = tokenizer.control_id("</think>");
}

void ThinkSplitter::push(int id) {
  if (id == open_)
    turn(Part::thinking);
  else if (id == close_)
    turn(Part::answer);
  else
    emit(detokenizer_.push(id));
}

void ThinkSplitter::finish() {
  emit(detokenizer_.finish());
  if (part_ == Part::answer) deliver(stops_.finish());
}

void ThinkSplitter::turn(Part part) {
  finish();
  detokenizer_ = StreamingDetokenizer(*tokenizer_, skip_special_);
  blanks_.clear();
  part_ = part;
  trim_ = true;
}

void ThinkSplitter::emit(const std::string& text) {
  std::string out = text;
  if (trim_) {
    out.erase(0, out.find_first_not_of('\n'));
    if (out.empty()) return;
    trim_ = false;
  }
  if (part_ == Part::thinking) {
    out = blanks_ + out;
    const std::size_t end = out.find_last_not_of('\n') + 1;  // npos + 1 is 0
    blanks_ = out.substr(end);
    out.resize(end);
  }
  deliver(part_ == Part::answer ? stops_.push(out) : out);
}

void ThinkSplitter::deliver(const std::string& text) {
  if (text.empty()) return;
  (part_ == Part::thinking ? thinking_ : answer_) += text;
  if (sink_) sink_(part_, text);
}

}  // namespace tqkv
