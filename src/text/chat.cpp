#include "tqkv/chat.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/conversation.h"
#include "text/python_json.h"
#include "text/turns.h"
#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using text::Message;
using text::ParsedConversation;
using text::PyValue;
using text::ToolCall;

constexpr std::string_view tool_instructions =
    "\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n"
    "<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested within "
    "<tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT "
    "after\n"
    "- If there is no function call available, answer the question like normal with your current knowledge and do not "
    "tell the user about function calls\n"
    "</IMPORTANT>";

/// Collects pieces; neighbours of one kind are joined.
class Writer {
 public:
  Writer& markup(std::string_view text) { return add(text, true); }
  Writer& plain(std::string_view text) { return add(text, false); }
  Writer& begin_turn(std::string_view role) {
    return markup(text::start_of_turn).markup(role).markup(text::after_role);
  }
  Writer& end_turn() { return markup(text::end_of_turn).markup(text::between_turns); }
  std::vector<ChatPiece> take() { return std::move(pieces_); }

 private:
  Writer& add(std::string_view text, bool control) {
    if (text.empty()) return *this;
    if (pieces_.empty() || pieces_.back().control != control) pieces_.push_back({"", control});
    pieces_.back().text += text;
    return *this;
  }
  std::vector<ChatPiece> pieces_;
};

/// A user turn that is a question, not a tool's result.
bool is_query(const Message& message) {
  const std::string_view content = text::strip(message.content);
  return message.role == text::role_user &&
         !(content.starts_with("<tool_response>") && content.ends_with("</tool_response>"));
}

/// Reasoning and answer of an earlier assistant turn.
struct Turn {
  std::string_view reasoning, content;
};

Turn split_turn(const Message& message) {
  constexpr std::string_view begin = "<think>", end = "</think>";
  Turn turn{"", text::strip(message.content)};
  if (message.reasoning) {
    turn.reasoning = *message.reasoning;
  } else if (text::contains(turn.content, end)) {
    turn.reasoning = text::strip_newlines_right(turn.content.substr(0, turn.content.find(end)));
    const std::size_t opened = turn.reasoning.rfind(begin);
    if (opened != std::string_view::npos) turn.reasoning.remove_prefix(opened + begin.size());
    turn.content = text::strip_newlines_left(turn.content.substr(turn.content.rfind(end) + end.size()));
  }
  turn.reasoning = text::strip(turn.reasoning);
  return turn;
}

/// 3.5 prints scalars as Python does (True, None), 3.6 everything but strings as JSON.
std::string argument_text(const PyValue& value, ChatVariant variant) {
  if (value.is(PyValue::Kind::string)) return value.text;
  const bool nested = value.is(PyValue::Kind::array) || value.is(PyValue::Kind::object);
  return nested || variant == ChatVariant::qwen3_6 ? text::to_json(value) : text::to_str(value);
}

void write_tool_calls(Writer& out, const std::vector<ToolCall>& calls, bool after_text, ChatVariant variant) {
  const char* before = after_text ? "\n\n" : "";
  for (const ToolCall& call : calls) {
    out.markup(before).markup("<tool_call>\n<function=").plain(call.name).markup(">\n");
    for (const auto& [key, value] : call.arguments) {
      out.markup("<parameter=")
          .plain(key)
          .markup(">\n")
          .plain(argument_text(value, variant))
          .markup("\n</parameter>\n");
    }
    out.markup("</function>\n</tool_call>");
    before = "\n";
  }
}

void write_system(Writer& out, const ParsedConversation& conversation) {
  const Message& first = conversation.messages.front();
  const std::string_view content = first.role == text::role_system ? text::strip(first.content) : std::string_view{};
  if (!conversation.tools.empty()) {
    out.begin_turn(text::role_system).markup("# Tools\n\nYou have access to the following functions:\n\n<tools>");
    for (const PyValue& tool : conversation.tools) out.markup("\n").plain(text::to_json(tool));
    out.markup("\n</tools>").markup(tool_instructions);
    if (!content.empty()) out.markup("\n\n").plain(content);
    out.end_turn();
  } else if (first.role == text::role_system) {
    out.begin_turn(text::role_system).plain(content).end_turn();
  }
}

/// System messages at the front become one, with a blank line between their texts.
ParsedConversation with_one_system(ParsedConversation conversation) {
  std::vector<Message>& messages = conversation.messages;
  while (messages.size() > 1 && messages[0].role == text::role_system && messages[1].role == text::role_system) {
    const std::string first(text::strip(messages[0].content)), second(text::strip(messages[1].content));
    messages[1].content = first + (first.empty() || second.empty() ? "" : "\n\n") + second;
    messages.erase(messages.begin());
  }
  return conversation;
}

void write_qwen(Writer& out, const ParsedConversation& conversation, ChatVariant variant, bool keep_reasoning) {
  const std::vector<Message>& messages = conversation.messages;
  if (messages.empty()) throw Error(ErrorKind::chat, "messages: No messages provided.");
  write_system(out, conversation);
  const auto query = std::find_if(messages.rbegin(), messages.rend(), is_query);
  if (query == messages.rend())
    throw Error(ErrorKind::chat, "messages: No user query found in messages. One with the role user is needed.");
  const auto last_query = static_cast<std::size_t>(messages.rend() - query) - 1;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    const std::string_view content = text::strip(message.content);
    if (message.role == text::role_system) {
      if (i > 0)
        throw Error(ErrorKind::chat,
                    fmt::format("messages[{}]: System message must be at the beginning.", message.index));
    } else if (message.role == text::role_user) {
      out.begin_turn(text::role_user).plain(content).end_turn();
    } else if (message.role == text::role_assistant) {
      const Turn turn = split_turn(message);
      out.begin_turn(text::role_assistant);
      if (i > last_query || keep_reasoning) out.markup("<think>\n").plain(turn.reasoning).markup("\n</think>\n\n");
      out.plain(turn.content);
      write_tool_calls(out, message.tool_calls, !text::strip(turn.content).empty(), variant);
      out.end_turn();
    } else if (message.role == "tool") {
      // Results that follow each other share one user turn.
      if (i > 0 && messages[i - 1].role != "tool") out.markup(text::start_of_turn).markup(text::role_user);
      out.markup("\n<tool_response>\n").plain(content).markup("\n</tool_response>");
      if (i + 1 == messages.size() || messages[i + 1].role != "tool") out.end_turn();
    } else {
      throw Error(ErrorKind::chat, fmt::format("messages[{}].role: Unexpected message role. Found \"{}\", expected "
                                               "system, developer, user, assistant or tool",
                                               message.index, message.role.substr(0, 40)));
    }
  }
}

void write_plain(Writer& out, const ParsedConversation& conversation) {
  if (!conversation.tools.empty()) {
    throw Error(ErrorKind::chat, "tools: this model's chat template has no tools, leave them out");
  }
  for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
    const Message& message = conversation.messages[i];
    if (!message.tool_calls.empty()) {
      throw Error(ErrorKind::chat,
                  fmt::format("messages[{}].tool_calls: this model's chat template has no tools, leave them out", i));
    }
    out.markup(text::start_of_turn).plain(message.role).markup(text::after_role);
    out.plain(text::strip(message.content)).end_turn();
  }
}

}  // namespace

bool ChatTemplate::opens_thinking(const ChatOptions& options) const {
  if (!options.add_generation_prompt || variant_ == ChatVariant::plain) return false;
  return options.think.value_or(variant_ != ChatVariant::qwen3_5_no_think);
}

std::vector<ChatPiece> ChatTemplate::render(const Conversation& conversation, const ChatOptions& options) const {
  if (options.preserve_thinking && variant_ != ChatVariant::qwen3_6) {
    throw Error(ErrorKind::chat, "preserve_thinking: this model's chat template has no such option, leave it out");
  }
  if (variant_ == ChatVariant::plain && options.think.value_or(false)) {
    throw Error(ErrorKind::chat, "thinking: this model does not think, leave it off");
  }
  const ParsedConversation parsed = text::read_conversation(conversation);
  Writer out;
  if (variant_ == ChatVariant::plain) {
    write_plain(out, parsed);
  } else {
    write_qwen(out, with_one_system(parsed), variant_, options.preserve_thinking);
  }
  if (options.add_generation_prompt) {
    out.begin_turn(text::role_assistant);
    if (opens_thinking(options)) {
      out.markup("<think>\n");
    } else if (think_block_) {
      out.markup("<think>\n\n</think>\n\n");
    }
  }
  return out.take();
}

std::string text_of(const std::vector<ChatPiece>& pieces) {
  std::string text;
  for (const ChatPiece& piece : pieces) text += piece.text;
  return text;
}

std::vector<int> encode(const Tokenizer& tokenizer, const std::vector<ChatPiece>& pieces, int* replaced) {
  std::vector<int> ids;
  std::string stretch;  // text between two control tokens: words may span pieces
  int total = 0;
  const auto flush = [&] {
    int count = 0;
    const std::vector<int> more = tokenizer.encode(stretch, ControlStrings::plain, &count);
    ids.insert(ids.end(), more.begin(), more.end());
    total += count;
    stretch.clear();
  };
  for (const ChatPiece& piece : pieces) {
    const std::string_view text = piece.text;
    std::size_t done = 0;
    if (piece.control) {
      for (const ControlMatch& match : tokenizer.find_controls(text)) {
        stretch += text.substr(done, match.begin - done);
        flush();
        ids.push_back(match.id);
        done = match.end;
      }
    }
    stretch += text.substr(done);
  }
  flush();
  if (replaced) *replaced = total;
  return ids;
}

}  // namespace tqkv
