#include "prompt.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "input.h"
#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

constexpr const char* prompt_group = "Prompt";

bool blank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") == std::string::npos;
}

/// File, blank line, PROMPT: whichever there are.
std::string joined_text(const PromptOptions& options) {
  std::string text;
  if (!options.file.empty()) text = read_input(options.file);
  if (options.text) {
    if (!options.file.empty()) {
      text.erase(text.find_last_not_of("\r\n") + 1);  // npos + 1 is 0
      text += "\n\n";
    }
    text += *options.text == "-" ? read_input("-") : *options.text;
  }
  return text;
}

std::string valid(const std::string& text, int& replaced) {
  std::string fixed;
  replaced += text::append_lossy(fixed, text);
  return fixed;
}

Conversation conversation(const PromptOptions& options, int& replaced) {
  Conversation conversation;
  if (!options.tools.empty()) conversation.tools = read_input(options.tools);
  if (!options.messages.empty()) {
    conversation.messages = read_input(options.messages);
    if (nlohmann::json::parse(conversation.messages, nullptr, false) == nlohmann::json::array())
      throw Error(ErrorKind::input, fmt::format("{}: the conversation is empty: give a message", options.messages));
    return conversation;
  }
  const std::string text = joined_text(options);
  if (blank(text)) throw Error(ErrorKind::input, "prompt: it is empty: give some text");
  auto messages = nlohmann::json::array();
  if (options.system) messages.push_back({{"role", "system"}, {"content", valid(*options.system, replaced)}});
  messages.push_back({{"role", "user"}, {"content", valid(text, replaced)}});
  conversation.messages = messages.dump();
  return conversation;
}

}  // namespace

std::optional<bool> PromptOptions::thinking() const {
  if (think) return true;
  if (no_think) return false;
  return std::nullopt;
}

void add_prompt_options(CLI::App& command, PromptOptions& options) {
  command.add_option("PROMPT", options.text, "What to say to the model; - reads standard input")->type_name("");
  const auto add = [&](const char* flag, auto& target, const char* type, const char* help) {
    return command.add_option(flag, target, help)->type_name(type)->group(prompt_group);
  };
  const auto flag = [&](const char* name, bool& target, const char* help) {
    return command.add_flag(name, target, help)->group(prompt_group);
  };
  add("--file", options.file, "FILE", "Text of a file; with PROMPT: the file, a blank line, PROMPT");
  add("--system", options.system, "TEXT", "System message");
  add("--messages", options.messages, "FILE", "A whole conversation: JSON array of messages with role and content");
  add("--tools", options.tools, "FILE", "Tools that the model may call: JSON array");
  flag("--think", options.think, "Let the model think first (default: as its template says)");
  flag("--no-think", options.no_think, "Answer at once");
  flag("--raw", options.raw, "No chat markup: continue the text; control strings such as <|im_end|> count");
  flag("--plain", options.plain, "With --raw: control strings are text");
}

void check(const PromptOptions& options) {
  const auto conflict = [](bool both, const char* message) {
    if (both) throw Error(ErrorKind::usage, std::string("tqkv generate: ") + message);
  };
  const bool text = options.text.has_value() || !options.file.empty();
  const bool messages = !options.messages.empty();
  conflict(options.think && options.no_think, "--think and --no-think contradict each other");
  conflict(messages && text, "--messages holds the whole conversation: leave out PROMPT and --file");
  conflict(messages && options.system.has_value(), "--messages holds the system message too: leave out --system");
  conflict(options.plain && !options.raw, "--plain goes with --raw: text in chat markup is always plain");
  conflict(options.raw && (messages || !options.tools.empty() || options.system.has_value()),
           "--raw has no chat markup: leave out --system, --messages and --tools");
  conflict(options.raw && (options.think || options.no_think),
           "--raw has no chat markup: leave out --think and --no-think");
  conflict(options.text == "-" && options.file == "-", "PROMPT and --file cannot both be standard input");
  conflict(!messages && !text, "a prompt is needed: PROMPT, - for standard input, --file or --messages");
}

Prompt make_prompt(const PromptOptions& options, const std::optional<ChatTemplate>& chat, int& replaced) {
  Prompt prompt;
  if (options.raw) {
    const std::string text = joined_text(options);
    if (text.empty()) throw Error(ErrorKind::input, "prompt: it is empty: give some text");
    prompt.pieces.push_back({valid(text, replaced), !options.plain});
    return prompt;
  }
  if (!chat)
    throw Error(ErrorKind::chat,
                "the model's chat template is not Qwen markup, which is the only one there is: use --raw and write the "
                "markup in the prompt");
  if (options.think && chat->variant() == ChatVariant::plain)
    throw Error(ErrorKind::chat, "--think: this model does not think: leave it out");
  ChatOptions chat_options;
  chat_options.think = options.thinking();
  prompt.pieces = chat->render(conversation(options, replaced), chat_options);
  prompt.opens_thinking = chat->opens_thinking(chat_options);
  return prompt;
}

}  // namespace tqkv::cli
