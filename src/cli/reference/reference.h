// What the commands and their options are, read off the program itself, for shells and for man.
#pragma once
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace tqkv::cli {

struct OptionEntry {
  std::vector<std::string> names;    ///< "-h", "--help"; empty for a positional
  std::string argument;              ///< as help shows it, "N"; the name of a positional; empty for a flag
  std::vector<std::string> choices;  ///< what the argument may be, where that is a list
  std::string preset;                ///< the default, empty where there is none
  std::string description;
  std::string group;  ///< heading of help, empty for the first one
};

struct CommandEntry {
  std::string name, description, examples;
  std::vector<OptionEntry> positionals, options;
};

/// The commands of `program` in the order of its help.
std::vector<CommandEntry> commands_of(const CLI::App& program);

/// A completion script for bash (4 or later) or zsh.
std::string bash_completion(const std::vector<CommandEntry>& commands);
std::string zsh_completion(const std::vector<CommandEntry>& commands);

/// The manual page tqkv(1) in the man macros. `footer`: the text at the end of the program's help.
std::string manual_page(const std::vector<CommandEntry>& commands, const std::string& description,
                        const std::string& footer);

}  // namespace tqkv::cli
