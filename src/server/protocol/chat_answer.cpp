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

Json ChatAnswer::logprobs_of(const std::vector<TokenLogprob>& tokens) const {
  if (!head_.logprobs) return nullptr;
  return {{"content", openai_logprobs(tokens)}, {"refusal", nullptr}};
}

std::string ChatAnswer::on_open(int choice) {
  const Part& part = at(choice).parts.back();
  if (part.kind != Kind::call) return {};
  const Json delta = {{"index", at(choice).calls() - 1},
                      {"id", part.id},
                      {"type", "function"},
                      {"function", {{"name", part.name}, {"arguments", ""}}}};
  return event_text(chunk(choice, {{"tool_calls", Json::array({delta})}}));
}

std::string ChatAnswer::on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) {
  switch (at(choice).parts.back().kind) {
    case Kind::thinking:
      return event_text(chunk(choice, {{"reasoning_content", text}}));
    case Kind::text:
      return event_text(chunk(choice, {{"content", text}}, logprobs_of(logprobs)));
    default: {
      const Json delta = {{"index", at(choice).calls() - 1}, {"function", {{"arguments", text}}}};
      return event_text(chunk(choice, {{"tool_calls", Json::array({delta})}}));
    }
  }
}

Json ChatAnswer::last_chunk(int choice) const {
  return chunk(choice, Json::object(), nullptr, openai_reason(at(choice).ending, at(choice).asks_tools()));
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
    const std::string text = choice.text(Kind::text), thinking = choice.text(Kind::thinking);
    Json message = {{"role", "assistant"}, {"content", text}, {"refusal", nullptr}};
    if (text.empty() && choice.calls() > 0) message["content"] = nullptr;
    if (!thinking.empty()) message["reasoning_content"] = thinking;
    std::vector<TokenLogprob> logprobs;
    for (const Part& part : choice.parts) {
      logprobs.insert(logprobs.end(), part.logprobs.begin(), part.logprobs.end());
      if (part.kind == Kind::call)
        message["tool_calls"].push_back(
            {{"id", part.id}, {"type", "function"}, {"function", {{"name", part.name}, {"arguments", part.text}}}});
    }
    out["choices"].push_back({{"index", i},
                              {"message", std::move(message)},
                              {"logprobs", logprobs_of(logprobs)},
                              {"finish_reason", openai_reason(choice.ending, choice.asks_tools())}});
  }
  out["usage"] = openai_usage(usage_);
  out["tqkv"] = ours(report);
  return out;
}

}  // namespace tqkv::server
