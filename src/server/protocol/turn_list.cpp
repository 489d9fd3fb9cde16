#include "server/protocol/turn_list.h"

namespace tqkv::server {
namespace {

void append(Json& message, const char* key, std::string_view text) {
  std::string joined = message.value(key, "");
  if (!joined.empty()) joined += "\n\n";
  message[key] = joined.append(text);
}

}  // namespace

/// The message at the end, which is a new one where the role changes.
Json& TurnList::last(std::string_view role) {
  if (parted_ || messages_.back()["role"] != role) messages_.push_back({{"role", role}, {"content", ""}});
  parted_ = false;
  return messages_.back();
}

void TurnList::part() {
  parted_ = true;
}

void TurnList::system(std::string_view text) {
  append(last("system"), "content", text);
}

void TurnList::user(std::string_view text) {
  append(last("user"), "content", text);
}

void TurnList::tool_result(std::string_view text) {
  messages_.push_back({{"role", "tool"}, {"content", text}});
  parted_ = true;
}

void TurnList::thinking(std::string_view text) {
  Json& message = last("assistant");
  if (message["content"] == "" && !message.contains("tool_calls"))
    append(message, "reasoning_content", text);
  else
    append(messages_.emplace_back(Json{{"role", "assistant"}, {"content", ""}}), "reasoning_content", text);
}

void TurnList::answer(std::string_view text) {
  Json& message = last("assistant");
  // The markup has calls behind the text.
  if (message.contains("tool_calls"))
    messages_.push_back({{"role", "assistant"}, {"content", text}});
  else
    append(message, "content", text);
}

void TurnList::call(std::string_view name, Json arguments) {
  last("assistant")["tool_calls"].push_back({{"function", {{"name", name}, {"arguments", std::move(arguments)}}}});
}

bool TurnList::ends_with_answer() const {
  return !messages_.empty() && messages_.back()["role"] == "assistant" && !messages_.back().contains("tool_calls");
}

}  // namespace tqkv::server
