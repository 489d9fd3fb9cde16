#include "generation/held_answer.h"

#include <fmt/format.h>

#include <algorithm>

#include "tqkv/error.h"

namespace tqkv {

HeldAnswer::HeldAnswer(const GenerateOptions& options, const Tokenizer& tokenizer)
    : matcher_(*options.grammar), vocabulary_(options.vocabulary), stop_ids_(options.stop_ids) {
  if (!vocabulary_) throw Error(ErrorKind::usage, "grammar: the vocabulary is missing: give Model::vocabulary()");
  close_ = tokenizer.control_id("</think>");
  thinking_ = options.split_thinking && options.opens_thinking && close_;
}

bool HeldAnswer::stops(int id) const {
  return std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
}

bool HeldAnswer::may_come(int id) const {
  if (stops(id)) return !thinking_ && matcher_.can_end();
  if (thinking_) return true;
  const std::string_view text = vocabulary_->text(id);
  return !text.empty() && Matcher(matcher_).advance(text);
}

const std::vector<bool>* HeldAnswer::instead_of(int id, std::size_t vocab) {
  if (may_come(id)) return nullptr;
  if (!thinking_) {
    if (!masks_) masks_.emplace(*vocabulary_, static_cast<int>(vocab), stop_ids_);
    return &masks_->allowed(matcher_);
  }
  if (in_thought_.empty()) {
    in_thought_.assign(vocab, true);
    for (const int stop : stop_ids_)
      if (stop >= 0 && static_cast<std::size_t>(stop) < vocab) in_thought_[static_cast<std::size_t>(stop)] = false;
  }
  return &in_thought_;
}

void HeldAnswer::take(int id) {
  if (!may_come(id))
    throw Error(ErrorKind::internal, fmt::format("grammar: the id {} was drawn, which it does not allow here", id));
  if (thinking_)
    thinking_ = id != close_;
  else if (!stops(id))
    matcher_.advance(vocabulary_->text(id));
}

}  // namespace tqkv
