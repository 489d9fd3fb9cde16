#include <fmt/format.h>

#include "cli/reference/reference.h"
#include "cli/reference/replace.h"
#include "tqkv/version.h"

namespace tqkv::cli {
namespace {

/// Text as roff takes it: hyphens that stay hyphens, no line that starts a request.
std::string roff(const std::string& text) {
  std::string out = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
  if (!out.empty() && (out.front() == '.' || out.front() == '\'')) out.insert(0, "\\&");
  return replaced(replaced(out, "\n.", "\n\\&."), "\n'", "\n\\&'");
}

std::string roff_option(const OptionEntry& option) {
  std::string head;
  for (const std::string& name : option.names)
    head += fmt::format("{}\\fB{}\\fR", head.empty() ? "" : ", ", roff(name));
  if (!option.argument.empty()) head += fmt::format("{}\\fI{}\\fR", head.empty() ? "" : " ", roff(option.argument));
  std::string body = roff(option.description);
  if (!option.preset.empty()) body += roff(fmt::format(" [{}]", option.preset));
  return fmt::format(".TP\n{}\n{}\n", head, body);
}

std::string roff_examples(const std::string& footer) {
  return fmt::format(".PP\n.nf\n{}\n.fi\n", roff(footer));
}

}  // namespace

std::string manual_page(const std::vector<CommandEntry>& commands, const std::string& description,
                        const std::string& footer) {
  std::string page = fmt::format(".TH TQKV 1 \"\" \"tqkv {}\" \"User Commands\"\n.SH NAME\ntqkv \\- {}\n.SH SYNOPSIS\n",
                                 version, roff("run Qwen3.5 models with a compressed key-value cache"));
  for (const CommandEntry& command : commands) {
    page += fmt::format(".B tqkv {}\n[\\fIoptions\\fR]", roff(command.name));
    for (const OptionEntry& positional : command.positionals)
      page += fmt::format(" \\fI{}\\fR", roff(positional.argument));
    page += "\n.br\n";
  }
  page += fmt::format(".SH DESCRIPTION\n{}\n", roff(description));
  for (const CommandEntry& command : commands) {
    page += fmt::format(".SH \"{}\"\n{}.\n", roff("tqkv " + command.name), roff(command.description));
    for (const OptionEntry& positional : command.positionals) page += roff_option(positional);
    std::string group;
    for (const OptionEntry& option : command.options) {
      if (option.group != group) page += fmt::format(".SS \"{}\"\n", roff(group = option.group));
      page += roff_option(option);
    }
    if (!command.examples.empty()) page += roff_examples(command.examples);
  }
  return page + ".SH MORE\n" + roff_examples(footer);
}

}  // namespace tqkv::cli
