#include "server/protocol/completion_answer.h"

#include <algorithm>

#include "base/utf8.h"

namespace tqkv::server {
namespace {

/// The text of a token, and how many characters it adds to `offset`.
std::string text_of(const std::string& bytes, std::size_t& offset) {
  std::string text;
  append_lossy(text, bytes);
  for (std::size_t at = 0; at < text.size(); ++offset) at += next_character(text, at).length;
  return text;
}

}  // namespace

CompletionAnswer::CompletionAnswer(AnswerHead given)
    : AnswerWriter(std::move(given)), offsets_(static_cast<std::size_t>(std::max(head_.n, 1))) {}

Json CompletionAnswer::head() const {
  return {
      {"id", "cmpl-" + head_.id}, {"object", "text_completion"}, {"created", head_.created}, {"model", head_.model}};
}

Json CompletionAnswer::logprobs_of(const std::vector<TokenLogprob>& tokens, std::size_t& offset) const {
  if (!head_.logprobs) return nullptr;
  Json out = {{"tokens", Json::array()},
              {"token_logprobs", Json::array()},
              {"top_logprobs", Json::array()},
              {"text_offset", Json::array()}};
  for (const TokenLogprob& token : tokens) {
    out["text_offset"].push_back(offset);
    out["tokens"].push_back(text_of(token.bytes, offset));
    out["token_logprobs"].push_back(std::max(token.logprob, -9999.0));
    Json top = Json::object();
    std::size_t unused = 0;
    for (const auto& [bytes, logprob] : token.top) top[text_of(bytes, unused)] = std::max(logprob, -9999.0);
    out["top_logprobs"].push_back(std::move(top));
  }
  return out;
}

Json CompletionAnswer::choice_of(int choice, std::string_view text, Json logprobs, bool ends) const {
  Json reason = nullptr;
  if (ends) reason = openai_reason(at(choice).ending, false);
  return {{"index", choice}, {"text", text}, {"logprobs", std::move(logprobs)}, {"finish_reason", std::move(reason)}};
}

std::string CompletionAnswer::on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) {
  Json out = head();
  Json told = logprobs_of(logprobs, offsets_[static_cast<std::size_t>(choice)]);
  out["choices"] = Json::array({choice_of(choice, text, std::move(told), false)});
  return event_text(out);
}

std::string CompletionAnswer::on_finish(int choice) {
  Json out = head();
  out["choices"] = Json::array({choice_of(choice, "", nullptr, true)});
  return event_text(out);
}

std::string CompletionAnswer::on_end(int last_choice, const AnswerReport& report) {
  Json last = head();
  std::string out;
  if (head_.include_usage) {
    out = on_finish(last_choice);
    last["choices"] = Json::array();
    last["usage"] = openai_usage(usage_);
  } else {
    last["choices"] = Json::array({choice_of(last_choice, "", nullptr, true)});
  }
  last["tqkv"] = ours(report);
  return out + event_text(last) + "data: [DONE]\n\n";
}

std::string CompletionAnswer::on_fail(const ApiError& error) {
  return "data: " + openai_error(error) + "\n\n";
}

Json CompletionAnswer::whole(const AnswerReport& report) const {
  Json out = head();
  out["choices"] = Json::array();
  for (int i = 0; i < head_.n; ++i) {
    std::string text;
    std::vector<TokenLogprob> logprobs;
    for (const Part& part : at(i).parts) {
      text += part.text;
      logprobs.insert(logprobs.end(), part.logprobs.begin(), part.logprobs.end());
    }
    std::size_t offset = 0;
    out["choices"].push_back(choice_of(i, text, logprobs_of(logprobs, offset), true));
  }
  out["usage"] = openai_usage(usage_);
  out["tqkv"] = ours(report);
  return out;
}

}  // namespace tqkv::server
