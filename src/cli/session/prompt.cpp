#include "cli/session/prompt.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "cli/terminal/input.h"
#include "cli/terminal/output.h"
#include "loaders/json.h"
#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

constexpr const char* prompt_group = "Prompt";

bool blank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") == std::string::npos;
}

/// What stands in front of PROMPT: the text of --file, or of standard input where it has some and nothing else is read.
std::optional<std::string> text_in_front(const PromptOptions& options) {
  if (!options.file.empty()) return read_text_input(options.file);
  if (!options.text || *options.text == "-") return std::nullopt;
  return read_piped_text();
}

/// That, a blank line, PROMPT: whichever there are.
std::string joined_text(const PromptOptions& options) {
  const std::optional<std::string> front = text_in_front(options);
  std::string text = front.value_or("");
  if (options.text) {
    if (front) {
      text.erase(text.find_last_not_of("\r\n") + 1);  // npos + 1 is 0
      text += "\n\n";
    }
    text += *options.text == "-" ? read_text_input("-") : *options.text;
  }
  return text;
}

std::string valid(const std::string& text, int& replaced) {
  std::string fixed;
  replaced += text::append_lossy(fixed, text);
  return fixed;
}

/// The text of a JSON file, which is an array. Throws Error(chat) with the name of the file, and Error(input) with
/// `when_empty` for an array of nothing.
std::string read_array(const std::string& path, const char* when_empty = nullptr) {
  std::string text = read_json_input(path);
  try {
    const nlohmann::json array = nlohmann::json::parse(text);
    if (array.is_array() && array.empty() && when_empty)
      throw Error(ErrorKind::input, fmt::format("{}: {}", input_name(path), when_empty));
    if (array.is_array()) return text;
  } catch (const nlohmann::json::exception& problem) {
    throw Error(ErrorKind::chat, fmt::format("{}: broken JSON: {}", input_name(path), json_problem(problem)));
  }
  throw Error(ErrorKind::chat, fmt::format("{}: expected a JSON array", input_name(path)));
}

Conversation conversation(const PromptOptions& options, int& replaced) {
  Conversation conversation;
  if (!options.tools.empty()) conversation.tools = read_array(options.tools);
  if (!options.messages.empty()) {
    conversation.messages = read_array(options.messages, "the conversation is empty: give a message");
    return conversation;
  }
  const std::string text = joined_text(options);
  if (blank(text)) throw Error(ErrorKind::input, "prompt: it is empty: give some text");
  std::string tools = std::move(conversation.tools);
  conversation = user_message(text, options.system, &replaced);
  conversation.tools = std::move(tools);
  return conversation;
}

}  // namespace

std::optional<bool> PromptOptions::thinking() const {
  if (think) return true;
  if (no_think) return false;
  return std::nullopt;
}

CLI::Option* add_markup_option(CLI::App& command, std::string& markup) {
  return command
      .add_option("--markup", markup,
                  "Chat markup: qwen3.5, qwen3.6, chatml or raw (default: as the model's template says)")
      ->check(CLI::IsMember({"qwen3.5", "qwen3.6", "chatml", "raw"}))
      ->type_name("NAME");
}

ChatTemplate choose_chat(const std::string& markup, const Model& model) {
  std::string about;
  ChatTemplate chat = model.chat(markup, &about);
  if (!about.empty()) note(about);
  return chat;
}

namespace {

void add_options(CLI::App& command, PromptOptions& options, const char* prompt_help, bool thinking) {
  command.add_option("PROMPT", options.text, prompt_help)->type_name("");
  const auto add = [&](const char* flag, auto& target, const char* type, const char* help) {
    return command.add_option(flag, target, help)->type_name(type)->group(prompt_group);
  };
  const auto flag = [&](const char* name, bool& target, const char* help) {
    return command.add_flag(name, target, help)->group(prompt_group);
  };
  add("--file", options.file, "FILE", "Read the prompt from a file; with PROMPT, it follows after a blank line");
  add("--system", options.system, "TEXT", "System message");
  add("--messages", options.messages, "FILE", "Read a conversation: a JSON array of messages with role and content");
  add("--tools", options.tools, "FILE", "Tools that the model may call, as a JSON array");
  if (thinking) {
    flag("--think", options.think, "Let the model think first (default: what its template does)");
    flag("--no-think", options.no_think, "Answer without thinking");
  }
  add_markup_option(command, options.markup)->group(prompt_group);
  flag("--raw", options.raw,
       "Continue the text without chat markup; control strings such as <|im_end|> keep their meaning");
  flag("--plain", options.plain, "With --raw, treat control strings as plain text");
}

void check_options(const PromptOptions& options, const std::string& command) {
  const auto conflict = [&](bool both, const char* message) {
    if (both) throw Error(ErrorKind::usage, command + ": " + message);
  };
  const bool text = options.text.has_value() || !options.file.empty();
  const bool messages = !options.messages.empty();
  conflict(options.think && options.no_think, "--think and --no-think contradict each other");
  conflict(options.raw && !options.markup.empty() && options.markup != "raw",
           "--raw and --markup contradict each other");
  conflict(messages && text, "--messages has the whole conversation: leave out PROMPT and --file");
  conflict(messages && options.system.has_value(), "--messages has the system message too: leave out --system");
  conflict(options.plain && !options.is_raw(), "--plain goes with --raw: text in chat markup is always plain");
  conflict(options.is_raw() && (messages || !options.tools.empty() || options.system.has_value()),
           "without chat markup (--raw, --markup raw) there are no --system, --messages and --tools");
  conflict(options.is_raw() && (options.think || options.no_think),
           "without chat markup (--raw, --markup raw) there are no --think and --no-think");
  conflict(options.text == "-" && options.file == "-", "PROMPT and --file cannot both be standard input");
}

void require_text(const PromptOptions& options, const std::string& command) {
  if (!options.text && options.file.empty() && options.messages.empty())
    throw Error(ErrorKind::usage, command + ": a prompt is needed: PROMPT, - for standard input, --file or --messages");
}

/// --session: what the options may not give once more.
void refuse_beginning(const PromptOptions& options, const std::string& command) {
  if (!options.messages.empty() || !options.tools.empty() || options.system)
    throw Error(ErrorKind::usage,
                command +
                    ": --session has the beginning of the conversation: leave out --system, --messages and "
                    "--tools");
}

std::vector<ChatPiece> raw_text(const PromptOptions& options, int& replaced) {
  const std::string text = joined_text(options);
  if (text.empty()) throw Error(ErrorKind::input, "prompt: it is empty: give some text");
  return {{valid(text, replaced), !options.plain}};
}

}  // namespace

void add_prompt_options(CLI::App& command, PromptOptions& options) {
  add_options(command, options, "What to ask the model; - reads standard input", true);
}

void add_stored_prompt_options(CLI::App& command, PromptOptions& options) {
  add_options(command, options, "Text to store; - reads standard input", false);
}

void check(const PromptOptions& options, bool continued) {
  const std::string command = "tqkv generate";
  check_options(options, command);
  if (continued)
    refuse_beginning(options, command);
  else
    require_text(options, command);
}

void check_stored(const PromptOptions& options, bool continued) {
  const std::string command = "tqkv prefill";
  check_options(options, command);
  if (continued) refuse_beginning(options, command);
  require_text(options, command);
}

Prompt make_prompt(const PromptOptions& options, const Model& model, const Continuation& place, int& replaced) {
  Prompt prompt;
  if (options.is_raw() || place.raw()) {
    if (options.think || options.no_think)
      throw Error(ErrorKind::usage, "tqkv generate: the session is raw: leave out --think and --no-think");
    prompt.raw = true;
    if (options.text || !options.file.empty()) prompt.pieces = raw_text(options, replaced);
    return prompt;
  }
  const ChatTemplate chat = choose_chat(options.markup, model);
  require_text(options, "tqkv generate");
  if (options.think && chat.variant() == ChatVariant::plain)
    throw Error(ErrorKind::chat, "--think: this model does not think: leave it out");
  ChatOptions chat_options;
  chat_options.think = options.thinking();
  Conversation rendered = conversation(options, replaced);
  prompt.pieces = place.placed(chat.render(rendered, chat_options));
  prompt.tools = std::move(rendered.tools);
  prompt.opens_thinking = chat.opens_thinking(chat_options);
  return prompt;
}

StoredTurns make_stored(const PromptOptions& options, const Model& model, const Continuation& place, int& replaced) {
  if (options.is_raw() || place.raw()) return {raw_text(options, replaced), NextText::raw};
  const ChatTemplate chat = choose_chat(options.markup, model);
  ChatOptions chat_options;
  chat_options.add_generation_prompt = false;
  StoredTurns stored =
      stored_turns(chat.render(conversation(options, replaced), chat_options), !options.messages.empty());
  stored.pieces = place.placed(std::move(stored.pieces));
  return stored;
}

void warn_about(int replaced) {
  if (replaced > 0)
    note(fmt::format("warning: the prompt has {} invalid UTF-8 sequence{}, read as U+FFFD", replaced,
                     replaced == 1 ? "" : "s"));
}

}  // namespace tqkv::cli
