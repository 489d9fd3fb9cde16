#include "cli/options/file_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <vector>

#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> written_options{"output", "save-session", "capture", "logits"};

/// A file that an option names.
struct Named {
  std::string option, file;
  bool written = false;
};

std::vector<CLI::Option*> all_options(CLI::App& command) {
  return command.get_options([](const CLI::Option*) { return true; });
}

/// Files that the options and positionals of a command name.
std::vector<Named> files_of(CLI::App& command) {
  std::vector<Named> files;
  for (const CLI::Option* option : all_options(command)) {
    const bool positional = option->get_positional();
    if (option->get_type_name() != "FILE" && !positional) continue;
    const std::string own = option->get_single_name();
    if (positional && own != "FILES" && own != "MODEL") continue;
    const bool written =
        std::find(written_options.begin(), written_options.end(), own) != written_options.end() && !positional;
    for (const std::string& file : option->results()) {
      if (file != "-")
        files.push_back({positional ? own : "--" + own, file, written});
      else if (!written)
        files.push_back({positional ? own : "--" + own, "/dev/stdin", false});
    }
  }
  return files;
}

/// Whether both name one file, there or not. Devices and pipes take several writers; a folder is none.
bool same_file(const std::string& a, const std::string& b) {
  std::error_code error;
  const fs::file_status status = fs::status(a, error);
  if (fs::exists(status)) return fs::is_regular_file(status) && fs::equivalent(a, b, error);
  if (fs::exists(fs::status(b, error))) return false;
  const fs::path one = fs::weakly_canonical(fs::absolute(a, error), error);
  return !error && one == fs::weakly_canonical(fs::absolute(b, error), error) && !error;
}

void refuse_overwriting(CLI::App& command) {
  const std::vector<Named> files = files_of(command);
  for (const Named& written : files) {
    if (!written.written) continue;
    for (const Named& other : files) {
      const bool continued = written.option == "--save-session" && other.option == "--session";
      if (&other == &written || continued || !same_file(written.file, other.file)) continue;
      throw Error(ErrorKind::usage, fmt::format("tqkv {}: {} and {} both name {}: name another file to write",
                                                command.get_name(), other.option, written.option, written.file));
    }
  }
}

}  // namespace

void check_files(CLI::App& program) {
  for (CLI::App* command : program.get_subcommands([](CLI::App*) { return true; })) {
    for (CLI::Option* option : all_options(*command))
      if (const std::string type = option->get_type_name(); type == "FILE" || type == "DIR")
        option->check(
            [](const std::string& name) { return std::string(name.empty() ? "it is empty: name a file" : ""); });
    command->parse_complete_callback([command] { refuse_overwriting(*command); });
  }
}

void check_resumed(const std::string& output) {
  if (output.empty()) throw Error(ErrorKind::usage, "--resume continues the file of --output: give --output too");
  if (output == "-")
    throw Error(ErrorKind::usage, "--resume continues the file of --output, and - is standard output: name a file");
  std::error_code error;
  const fs::file_status status = fs::status(output, error);
  if (fs::exists(status) && !fs::is_regular_file(status))
    throw Error(
        ErrorKind::usage,
        fmt::format("--resume continues the file of --output, and {} is no regular file: name another", output));
}

}  // namespace tqkv::cli
