#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/reference/reference.h"
#include "cli/reference/replace.h"

namespace tqkv::cli {
namespace {

bool takes_file(const OptionEntry& option) {
  return option.argument == "FILE" || option.argument == "FILES";
}

/// A text inside single quotes of a shell.
std::string single_quoted(const std::string& text) {
  return "'" + replaced(text, "'", "'\\''") + "'";
}

}  // namespace

std::string bash_completion(const std::vector<CommandEntry>& commands) {
  std::string names, values, options;
  for (const CommandEntry& command : commands) {
    names += command.name + " ";
    std::string words;
    for (const OptionEntry& option : command.options) {
      words += fmt::format("{} ", fmt::join(option.names, " "));
      if (option.argument.empty()) continue;
      std::string patterns;
      for (const std::string& name : option.names)
        patterns += fmt::format("{}'{} {}'", patterns.empty() ? "" : "|", command.name, name);
      const std::string reply = takes_file(option)
                                    ? "compgen -f -- \"$word\""
                                    : fmt::format("compgen -W '{}' -- \"$word\"", fmt::join(option.choices, " "));
      values += fmt::format("    {}) COMPREPLY=($({})); return ;;\n", patterns, reply);
    }
    options += fmt::format("    {}) options='{}' ;;\n", command.name, words);
  }
  return fmt::format(R"(# Completion of tqkv for bash: source this file.
_tqkv() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}} options=
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '{}--help --version' -- "$word"))
    return
  fi
  case "$command $before" in
{}  esac
  case "$command" in
{}  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  else
    COMPREPLY=($(compgen -W pocket -- "$word") $(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _tqkv tqkv
)",
                     names, values, options);
}

std::string zsh_completion(const std::vector<CommandEntry>& commands) {
  const auto escaped = [](std::string text) {
    for (const char* special : {"\\", "[", "]", ":"}) text = replaced(text, special, std::string("\\") + special);
    return text;
  };
  std::string list, cases;
  for (const CommandEntry& command : commands) {
    list += fmt::format("    {}\n", single_quoted(escaped(command.name) + ":" + command.description));
    std::string lines;
    for (const OptionEntry& option : command.options) {
      const std::string action = takes_file(option)       ? "_files"
                                 : option.choices.empty() ? " "
                                                          : fmt::format("({})", fmt::join(option.choices, " "));
      for (const std::string& name : option.names) {
        std::string one = fmt::format("{}[{}]", name, escaped(option.description));
        if (!option.argument.empty()) one += fmt::format(":{}:{}", escaped(option.argument), action);
        lines += fmt::format(" \\\n        {}", single_quoted(one));
      }
    }
    for (const OptionEntry& positional : command.positionals) {
      const std::string action = positional.argument == "MODEL" ? "_tqkv_model"
                                 : positional.choices.empty()   ? "_files"
                                                              : fmt::format("({})", fmt::join(positional.choices, " "));
      lines +=
          fmt::format(" \\\n        {}", single_quoted(fmt::format(":{}:{}", escaped(positional.argument), action)));
    }
    cases += fmt::format("      {})\n        _arguments{} ;;\n", command.name, lines);
  }
  return fmt::format(R"(#compdef tqkv
# Completion of tqkv for zsh: put this file into a folder of $fpath, as _tqkv.
_tqkv_model() {{
  _alternative 'bundled:bundled model:(pocket)' 'folders:folder:_files -/'
}}
_tqkv() {{
  local line state
  local -a commands
  commands=(
{}  )
  _arguments -C '--help[print help]' '--version[print the version]' '1:command:->command' '*::argument:->argument'
  case $state in
  command) _describe command commands ;;
  argument)
    case $line[1] in
{}    esac ;;
  esac
}}
_tqkv "$@"
)",
                     list, cases);
}

}  // namespace tqkv::cli
