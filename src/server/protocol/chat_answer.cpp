#include "server/protocol/chat_answer.h"

namespace tqkv::server {

Json ChatAnswer::head_of(std::string_view object) const {
  return {{"id", "chatcmpl-" + head_.id}, {"object", object}, {"created", head_.created}, {"model", head_.model}};
}

Json ChatAnswer::chunk(int choice, Json delta, Json logprobs, Json reason) const {
  Json out = head_of("chat.completion.chunk");
  out["choices"] = Json::array({{{"index", choice},
                                 {"delta", std::move(delta)},
                                 {"logprobs", std::move(logprobs)},
                                 {"finish_reason", std::move(reason)}}});
  return out;
}

std::string ChatAnswer::on_begin() {
  std::string out;
  for (int i = 0; i < head_.n; ++i) out += event_text(chunk(i, {{"role", "assistant"}, {"content", ""}}));
  return out;
}

std::string ChatAnswer::on_thinking(int choice, std::string_view text) {
  return event_text(chunk(choice, {{"reasoning_content", text}}));
}

std::string ChatAnswer::on_text(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) {
  Json told = nullptr;
  if (head_.logprobs) told = {{"content", openai_logprobs(logprobs)}, {"refusal", nullptr}};
  return event_text(chunk(choice, {{"content", text}}, std::move(told)));
}

std::string ChatAnswer::on_call_begin(int choice) {
  const Call& call = at(choice).calls.back();
  const Json delta = {{"index", at(choice).calls.size() - 1},
                      {"id", call.id},
                      {"type", "function"},
                      {"function", {{"name", call.name}, {"arguments", ""}}}};
  return event_text(chunk(choice, {{"tool_calls", Json::array({delta})}}));
}

std::string ChatAnswer::on_call_arguments(int choice, std::string_view json) {
  const Json delta = {{"index", at(choice).calls.size() - 1}, {"function", {{"arguments", json}}}};
  return event_text(chunk(choice, {{"tool_calls", Json::array({delta})}}));
}

Json ChatAnswer::last_chunk(int choice) const {
  return chunk(choice, Json::object(), nullptr, openai_reason(at(choice).ending, calls(at(choice))));
}

std::string ChatAnswer::on_finish(int choice) {
  return event_text(last_chunk(choice));
}

std::string ChatAnswer::on_end(int last_choice, const AnswerReport& report) {
  Json last = last_chunk(last_choice);
  std::string out;
  if (head_.include_usage) {
    out = event_text(last);
    last = head_of("chat.completion.chunk");
    last["choices"] = Json::array();
    last["usage"] = openai_usage(usage_);
  }
  last["tqkv"] = ours(report);
  return out + event_text(last) + "data: [DONE]\n\n";
}

std::string ChatAnswer::on_fail(const ApiError& error) {
  return "data: " + openai_error(error) + "\n\n";
}

Json ChatAnswer::whole(const AnswerReport& report) const {
  Json out = head_of("chat.completion");
  out["choices"] = Json::array();
  for (int i = 0; i < head_.n; ++i) {
    const Choice& choice = at(i);
    Json message = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    if (choice.text.empty() && !choice.calls.empty()) message["content"] = nullptr;
    if (!choice.thinking.empty()) message["reasoning_content"] = choice.thinking;
    for (const Call& call : choice.calls)
      message["tool_calls"].push_back(
          {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    Json logprobs = nullptr;
    if (head_.logprobs) logprobs = {{"content", openai_logprobs(choice.logprobs)}, {"refusal", nullptr}};
    out["choices"].push_back({{"index", i},
                              {"message", std::move(message)},
                              {"logprobs", std::move(logprobs)},
                              {"finish_reason", openai_reason(choice.ending, calls(choice))}});
  }
  out["usage"] = openai_usage(usage_);
  out["tqkv"] = ours(report);
  return out;
}

}  // namespace tqkv::server
