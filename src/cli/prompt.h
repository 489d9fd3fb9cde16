// The prompt of `generate`: from the command line, files and standard input to ids.
#pragma once
#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tqkv/chat.h"
#include "tqkv/tokenizer.h"

namespace tqkv::cli {

struct PromptOptions {
  std::optional<std::string> text;    // PROMPT; "-" is standard input
  std::string file, messages, tools;  // paths; empty: not given
  std::optional<std::string> system;
  bool think = false, no_think = false, raw = false, plain = false;

  std::optional<bool> thinking() const;
};

/// PROMPT and the options above.
void add_prompt_options(CLI::App& command, PromptOptions& options);

/// Throws Error(usage) for options that contradict each other or give no prompt.
void check(const PromptOptions& options);

/// What the model is to continue.
struct Prompt {
  std::vector<ChatPiece> pieces;  // control: markup, whose control strings are parsed
  bool opens_thinking = false;
};

/// Reads the files and renders the conversation. `chat` is what the checkpoint's template was told to be. Throws
/// Error(chat) when it is no Qwen markup and the prompt is not raw, Error(input) for an empty prompt, Error(io) for
/// files. Adds to `replaced` the bytes of the text that were no UTF-8 and became U+FFFD.
Prompt make_prompt(const PromptOptions& options, const std::optional<ChatTemplate>& chat, int& replaced);

}  // namespace tqkv::cli
