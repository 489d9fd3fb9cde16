#include "text/conversation.h"

#include <fmt/format.h>

#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv::text {
namespace {

using Kind = PyValue::Kind;

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorKind::chat, message);
}

[[noreturn]] void expected(const std::string& where, const PyValue* found, std::string_view what) {
  fail(
      fmt::format("{}: {}, expected {}", where, found ? fmt::format("found {}", found->kind_name()) : "missing", what));
}

std::string read_part(const PyValue& part, bool system, const std::string& where) {
  // The tests, their order and the messages of the official template.
  const PyValue* type = part.find("type");
  const auto is_type = [&](std::string_view name) { return type && type->is(Kind::string) && type->text == name; };
  const bool image = part.find("image") || part.find("image_url") || is_type("image");
  const bool video = part.find("video") || is_type("video");
  if (image || video) {
    const char* plural = image ? "images" : "videos";
    if (system) fail(fmt::format("{}: System message cannot contain {}.", where, plural));
    fail(fmt::format("{}: {} are not supported: this program reads text only", where, plural));
  }
  const PyValue* content = part.find("text");
  if (!content) fail(where + ": Unexpected item type in content. Only text is read");
  if (!content->is(Kind::string)) expected(where + ".text", content, "a string");
  return content->text;
}

std::string read_content(const PyValue* content, bool system, const std::string& where) {
  if (!content || content->is(Kind::null)) return {};
  if (content->is(Kind::string)) return content->text;
  if (!content->is(Kind::array))
    fail(fmt::format("{}: Unexpected content type. Found {}, expected a string, an array or null", where,
                     content->kind_name()));
  std::string text;
  for (std::size_t i = 0; i < content->items.size(); ++i) {
    text += read_part(content->items[i], system, fmt::format("{}[{}]", where, i));
  }
  return text;
}

ToolCall read_tool_call(const PyValue& value, const std::string& where) {
  const PyValue* function = value.find("function");
  const PyValue& call = function ? *function : value;
  const std::string at = function ? where + ".function" : where;
  if (!call.is(Kind::object)) expected(at, &call, "an object");
  ToolCall result;
  const PyValue* name = call.find("name");
  if (!name || !name->is(Kind::string)) expected(at + ".name", name, "a string");
  result.name = name->text;
  const PyValue* arguments = call.find("arguments");
  if (!arguments) return result;
  // The official template wants an object; clients of the OpenAI API send that object printed as a string.
  PyValue parsed;
  if (arguments->is(Kind::string)) {
    if (strip(arguments->text).empty()) return result;
    parsed = parse_json(arguments->text, at + ".arguments");
    arguments = &parsed;
  }
  if (!arguments->is(Kind::object)) expected(at + ".arguments", arguments, "an object, or one printed as a string");
  for (std::size_t i = 0; i < arguments->keys.size(); ++i) {
    result.arguments.emplace_back(arguments->keys[i], arguments->items[i]);
  }
  return result;
}

Message read_message(const PyValue& value, const std::string& where) {
  if (!value.is(Kind::object)) expected(where, &value, "an object");
  Message message;
  const PyValue* role = value.find("role");
  if (!role || !role->is(Kind::string)) expected(where + ".role", role, "a string");
  message.role = role->text == "developer" ? "system" : role->text;
  message.content = read_content(value.find("content"), message.role == "system", where + ".content");
  const PyValue* reasoning = value.find("reasoning_content");
  if (reasoning && reasoning->is(Kind::string)) message.reasoning = reasoning->text;
  const PyValue* calls = value.find("tool_calls");
  if (calls && !calls->is(Kind::null)) {
    if (!calls->is(Kind::array)) expected(where + ".tool_calls", calls, "an array");
    for (std::size_t i = 0; i < calls->items.size(); ++i) {
      message.tool_calls.push_back(read_tool_call(calls->items[i], fmt::format("{}.tool_calls[{}]", where, i)));
    }
  }
  return message;
}

}  // namespace

ParsedConversation read_conversation(const Conversation& conversation) {
  ParsedConversation parsed;
  const PyValue messages = parse_json(conversation.messages, "messages");
  if (!messages.is(Kind::array)) expected("messages", &messages, "an array of messages");
  for (std::size_t i = 0; i < messages.items.size(); ++i) {
    parsed.messages.push_back(read_message(messages.items[i], fmt::format("messages[{}]", i)));
    parsed.messages.back().index = i;
  }
  if (strip(conversation.tools).empty()) return parsed;
  PyValue tools = parse_json(conversation.tools, "tools");
  if (tools.is(Kind::null)) return parsed;
  if (!tools.is(Kind::array)) expected("tools", &tools, "an array of tools");
  for (std::size_t i = 0; i < tools.items.size(); ++i)
    if (!tools.items[i].is(Kind::object)) expected(fmt::format("tools[{}]", i), &tools.items[i], "an object");
  parsed.tools = std::move(tools.items);
  return parsed;
}

}  // namespace tqkv::text
