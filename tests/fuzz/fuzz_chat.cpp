// A conversation as bytes (messages, a zero byte, tools): every variant refuses it with an Error or renders it. The
// same bytes as an answer: its tool calls are taken out. And as a chat template.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "text/chat_template.h"
#include "tqkv/chat.h"
#include "tqkv/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using tqkv::ChatVariant;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t zero = bytes.find('\0');
  const tqkv::Conversation conversation{bytes.substr(0, zero), zero == std::string::npos ? "" : bytes.substr(zero + 1)};
  for (const ChatVariant variant :
       {ChatVariant::qwen3_5, ChatVariant::qwen3_5_no_think, ChatVariant::qwen3_6, ChatVariant::plain}) {
    tqkv::ChatOptions options;
    options.preserve_thinking = variant == ChatVariant::qwen3_6;
    try {
      if (tqkv::text_of(tqkv::ChatTemplate(variant).render(conversation, options)).empty()) __builtin_trap();
    } catch (const tqkv::Error&) {
    }
  }
  for (const tqkv::ParsedToolCall& call : tqkv::parse_tool_calls(conversation.messages, conversation.tools).calls)
    if (!nlohmann::json::parse(call.arguments).is_object()) __builtin_trap();
  if (tqkv::text::template_hash(bytes).size() != 64) __builtin_trap();
  tqkv::text::foreign_markup(bytes);
  return 0;
}
