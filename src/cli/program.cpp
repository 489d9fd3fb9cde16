#include "cli/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "base/descriptor.h"
#include "cli/commands/commands.h"
#include "cli/options/file_options.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "tqkv/error.h"
#include "tqkv/version.h"

namespace tqkv::cli {
namespace {

constexpr const char* examples = R"(Examples:
  tqkv generate pocket 'Hi, what can you help me with?'
  tqkv generate pocket 'Summarise this.' --file notes.txt --backend turboquant --kv-bits 3.5 --stats
  tqkv chat pocket
  tqkv benchmark pocket --backend baseline,mlx_quant,turboquant --prompt-tokens 2048 --generation-tokens 128
  tqkv pull mlx-community/Qwen3.5-35B-A3B-4bit --dry-run
  tqkv inspect mlx-community/Qwen3.5-35B-A3B-4bit

MODEL is a directory, org/name[@revision] on the Hugging Face hub, or pocket, the bundled model. A model from the hub is
downloaded if it is not in the local cache.
'tqkv COMMAND --help' lists the options of a command.
Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted, 128 + N ended by signal N.)";

/// What somebody sees who types the program's name alone.
constexpr const char* first_steps = R"(tqkv runs Qwen3.5 models in MLX format and compresses their key-value cache.

Try the bundled model:
  tqkv generate pocket 'Hi, what can you help me with?'
  tqkv chat pocket
See which models are here, and what a large one needs:
  tqkv models
  tqkv pull mlx-community/Qwen3.5-35B-A3B-4bit --dry-run
List all commands:
  tqkv --help
)";

// A program started with a closed standard stream would hand its number to the next file it opens. The stand-ins refuse
// what the closed stream would have refused.
void occupy_standard_streams() {
  for (const int stream : {0, 1, 2}) {
    if (::fcntl(stream, F_GETFD) >= 0) continue;
    if (::open("/dev/null", stream == 0 ? O_WRONLY : O_RDONLY) < 0) return;
  }
}

// A page of a mapped file that the disk no longer has: the file was cut short, or a disk went away. There is nothing to
// return to, so the program ends here; only calls that a signal handler may make are made.
extern "C" void on_lost_page(int) {
  constexpr std::string_view message =
      "tqkv: [io] a file of the model was cut short or cannot be read any more while it is in use: the run ends here\n";
  static_cast<void>(write_all(STDERR_FILENO, message));
  ::_exit(1);
}

/// On one line, and of a length that can be read: what a name of thousands of bytes takes is left out in the middle,
/// with whole characters around it.
std::string one_line(std::string text) {
  constexpr std::size_t longest = 1000, kept = 400;
  std::replace(text.begin(), text.end(), '\n', ' ');
  if (text.size() <= longest) return text;
  const auto inside_character = [&](std::size_t at) { return (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u; };
  std::size_t first = kept, last = text.size() - kept;
  while (first > 0 && inside_character(first)) --first;
  while (last < text.size() && inside_character(last)) ++last;
  return text.substr(0, first) + " ... " + text.substr(last);
}

/// Options with their argument and default, without ranges and choices: those stand in the description where they
/// matter.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text;
    if (option->get_type_size() != 0) {
      const std::string type = option->get_type_name();
      if (const std::string name = type.substr(0, type.find(':')); !name.empty()) text += " " + name;
      if (!option->get_default_str().empty()) text += " [" + option->get_default_str() + "]";
    }
    return text;
  }
};

std::string usage_message(const CLI::App& program, const CLI::ParseError& error) {
  const auto chosen = program.get_subcommands();
  const std::string command = chosen.empty() ? "tqkv" : "tqkv " + chosen.front()->get_name();
  const std::string hint = fmt::format("see '{} --help'", command);
  const std::vector<std::string> rest = program.remaining(true);
  if (chosen.empty() && !rest.empty())
    return one_line(fmt::format("tqkv: there is no {} '{}': {}", rest.front().starts_with('-') ? "option" : "command",
                                rest.front(), hint));
  if (!rest.empty() && rest.front().size() > 1 && rest.front().starts_with('-'))
    return one_line(fmt::format("{}: there is no option '{}': put -- before a text that begins with -; {}", command,
                                rest.front(), hint));
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ArgumentMismatch)) {
    const std::string_view what =
        error.what();  // "--name: At Most 1 required but received 2", "--name: 1 required TEXT missing"
    const std::string_view name = what.substr(0, what.find(':'));
    if (what.find("At Most 1") != what.npos)
      return one_line(fmt::format("{}: {} was given more than once: {}", command, name, hint));
    if (what.ends_with("missing")) return one_line(fmt::format("{}: {} needs a value: {}", command, name, hint));
  }
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError))
    return one_line(
        fmt::format("{}: not expected: {}: quote a text of several words; {}", command, fmt::join(rest, " "), hint));
  return one_line(fmt::format("{}: {}: {}", command, error.what(), hint));
}

int execute(int argc, const char* const* argv) {
  if (argc <= 1) {
    print_error(first_steps);
    return 2;  // as any other use that is wrong
  }
  CLI::App program("tqkv runs Qwen3.5 models in MLX format and compresses their key-value cache.", "tqkv");
  program.set_version_flag("--version", fmt::format("tqkv {}", version), "Print the version and exit");
  program.set_help_flag("-h,--help", "Print this help and exit");
  const auto formatter = std::make_shared<HelpFormatter>();  // shared by CLI11 among the commands
  formatter->column_width(32);
  program.formatter(formatter);
  program.require_subcommand(1);
  program.footer(examples);
  add_generate(program);
  add_chat(program);
  add_prefill(program);
  add_serve(program);
  add_benchmark(program);
  add_evaluate(program);
  add_compare(program);
  add_tune(program);
  add_report(program);
  add_inspect(program);
  add_doctor(program);
  add_pull(program);
  add_verify(program);
  add_models(program);
  add_logits(program);
  add_tokenize(program);
  add_completion(program);
  add_manual(program);
  check_files(program);
  try {
    program.parse(argc, argv);
    return 0;
  } catch (const CLI::CallForHelp&) {
    print(program.help());  // of the command that was named, if one was
    return 0;
  } catch (const CLI::CallForVersion& call) {
    print(std::string(call.what()) + "\n");
    return 0;
  } catch (const CLI::RuntimeError& end) {
    return end.get_exit_code();
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::usage, usage_message(program, error));
  }
}

}  // namespace

int run(int argc, const char* const* argv) {
  occupy_standard_streams();
  end_on_signals();
  std::signal(SIGBUS, on_lost_page);
  try {
    return execute(argc, argv);
  } catch (const ClosedPipe&) {
    return 1;
  } catch (const Error& error) {
    note(one_line(error.what()));
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    note("[memory] the system gave no more memory: use a smaller --context or close other programs");
    return 1;
  } catch (const std::system_error& error) {  // what the system refuses, those of std::filesystem among them
    note(one_line(fmt::format("[io] {}", error.what())));
    return 1;
  } catch (const std::exception& error) {
    note(one_line(fmt::format("[internal] {}: this is a defect of tqkv, please report it", error.what())));
    return 1;
  }
}

}  // namespace tqkv::cli
