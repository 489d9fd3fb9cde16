#include <memory>
#include <string>

#include "cli/commands/commands.h"
#include "cli/reference/reference.h"
#include "cli/terminal/output.h"

namespace tqkv::cli {

void add_completion(CLI::App& program) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* command = program.add_subcommand("completion", "Print a completion script for a shell");
  command->add_option("SHELL", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}))->type_name("");
  command->footer(
      "Examples:\n"
      "  source <(tqkv completion bash)\n"
      "  tqkv completion zsh > ~/.zfunc/_tqkv");
  command->callback([shell, &program] {
    const std::vector<CommandEntry> commands = commands_of(program);
    print(*shell == "bash" ? bash_completion(commands) : zsh_completion(commands));
  });
}

void add_manual(CLI::App& program) {
  CLI::App* command = program.add_subcommand("manual", "Print the manual page, for man");
  command->footer("Examples:\n  tqkv manual | man -l -");
  command->callback(
      [&program] { print(manual_page(commands_of(program), program.get_description(), program.get_footer())); });
}

}  // namespace tqkv::cli
