// The prompt of `generate`: from the command line, files and standard input to ids.
#pragma once
#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tqkv/chat.h"
#include "tqkv/continuation.h"
#include "tqkv/model.h"

namespace tqkv::cli {

struct PromptOptions {
  std::optional<std::string> text;    // PROMPT; "-" is standard input
  std::string file, messages, tools;  // paths; empty: not given
  std::optional<std::string> system;
  bool think = false, no_think = false, raw = false, plain = false;

  std::string markup;  // empty: as the template says

  std::optional<bool> thinking() const;
  /// Without chat markup: --raw, or --markup raw.
  bool is_raw() const { return raw || markup == "raw"; }
};

/// --markup.
CLI::Option* add_markup_option(CLI::App& command, std::string& markup);

/// The markup asked for, or that of the model's template; says so when it is not a known one. Throws Error(chat).
ChatTemplate choose_chat(const std::string& markup, const Model& model);

/// PROMPT and the options above.
void add_prompt_options(CLI::App& command, PromptOptions& options);

/// Those of a text that is stored before it is asked about.
void add_stored_prompt_options(CLI::App& command, PromptOptions& options);

/// Throws Error(usage) for options that contradict each other or give no prompt. `continued`: after a saved session,
/// whose beginning is what it is.
void check(const PromptOptions& options, bool continued);
void check_stored(const PromptOptions& options, bool continued);

/// What the model is to continue.
struct Prompt {
  std::vector<ChatPiece> pieces;  // control: markup, whose control strings are parsed
  bool opens_thinking = false;
  bool raw = false;   // no chat markup
  std::string tools;  // JSON that the model was given; empty: none
};

/// Reads the files and renders the conversation as it stands at `place`: raw where the text there is raw, which may
/// then be no text at all. Throws Error(chat) where the model has no markup for it, Error(input) for an empty prompt,
/// Error(io) for files. Adds to `replaced` the bytes of the text that were no UTF-8 and became U+FFFD.
Prompt make_prompt(const PromptOptions& options, const Model& model, const Continuation& place, int& replaced);
/// The same for text that is stored: without what would ask for an answer.
StoredTurns make_stored(const PromptOptions& options, const Model& model, const Continuation& place, int& replaced);

/// Tells of invalid UTF-8 in the prompt, if there was any.
void warn_about(int replaced);

}  // namespace tqkv::cli
