// A conversation, read and checked.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/python_json.h"
#include "tqkv/chat.h"

namespace tqkv::text {

struct ToolCall {
  std::string name;
  std::vector<std::pair<std::string, PyValue>> arguments;
};

struct Message {
  std::size_t index = 0;                 // in the conversation as it was given
  std::string role;                      // "developer" is read as "system"
  std::string content;                   // parts joined, not trimmed
  std::optional<std::string> reasoning;  // reasoning_content, where it is a string
  std::vector<ToolCall> tool_calls;
};

struct ParsedConversation {
  std::vector<Message> messages;
  std::vector<PyValue> tools;
};

/// Throws Error(chat) with the place of what cannot be rendered.
ParsedConversation read_conversation(const Conversation& conversation);

}  // namespace tqkv::text
