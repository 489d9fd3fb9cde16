#include "tqkv/verify.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>

#include "base/numbers.h"
#include "cli/commands/commands.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "hub/progress.h"
#include "tqkv/checkpoint.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

namespace fs = std::filesystem;

struct VerifyArguments {
  std::string model, against;
  bool online = false;
};

hub::ExpectedFiles expected_for(const VerifyArguments& options, const fs::path& folder, const Interrupt& interrupt) {
  if (options.against.empty()) return hub::expected_files_of(options.model, folder, options.online, interrupt.flag());
  const auto name = parse_hub_name(options.against);
  if (!name)
    throw Error(ErrorKind::usage,
                fmt::format("tqkv verify: --against: \"{}\" is no org/name[@revision] of a hub", options.against));
  return hub::expected_files(*name, options.online, interrupt.flag());
}

void verify(const VerifyArguments& options) {
  const fs::path folder = locate_model(options.model);
  const Interrupt interrupt;
  const hub::ExpectedFiles expected = expected_for(options, folder, interrupt);
  print(fmt::format("{} against {}\n", folder.string(), expected.source));
  const bool terminal = error_is_terminal();
  const auto clear = [&] {
    if (terminal) clear_status();
  };
  int percent = -1;
  const hub::Verification result = hub::verify(
      folder, expected, interrupt.flag(),
      [&](std::uint64_t done, std::uint64_t total) {
        const hub::PullProgress progress{done, total, done};
        const int now = static_cast<int>(static_cast<double>(done) * 100 / static_cast<double>(total));
        if (!terminal || now == percent) return;
        percent = now;
        show_status(fmt::format("{} {}", hub::progress_bar(progress, 24), hub::progress_text(progress, {})));
      },
      [&](const hub::CheckedFile& file) {
        clear();
        print(file.fault.empty() ? fmt::format("  good  {}: {} bytes\n", file.expected.path, grouped(file.bytes))
                                 : fmt::format("  BAD   {}: {}\n", file.expected.path, file.fault));
      });
  if (result.interrupted) {
    clear();
    note("interrupted");
    throw CLI::RuntimeError(interrupted_exit_code);
  }
  for (const hub::CheckedFile& file : result.files) {
    if (file.fault.empty()) continue;
    const std::size_t others = result.faults() - 1;
    throw Error(ErrorKind::checkpoint, fmt::format("{}: {}{}", (folder / file.expected.path).string(), file.fault,
                                                   others == 0 ? "" : fmt::format("; {} more are bad", others)));
  }
}

}  // namespace

void add_verify(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<VerifyArguments>();
  CLI::App* command = program.add_subcommand("verify", "Check the files of a model against their published hashes");
  command->add_option("MODEL", options->model, "A directory, or org/name[@revision] in the local Hugging Face cache")
      ->required()
      ->type_name("");
  command->add_option("--against", options->against, "Compare with this repository: org/name[@revision]")
      ->type_name("NAME");
  command->add_flag("--online", options->online, "Ask the hub even if the hashes are known here");
  command->footer(
      "Works offline for mlx-community/Qwen3.5-35B-A3B-4bit and for every model in the cache, whose blobs are named "
      "by\n"
      "their hashes. For anything else, the hub is asked. The exit code is 1 if a file is missing or differs.\n\n"
      "Examples:\n"
      "  tqkv verify mlx-community/Qwen3.5-35B-A3B-4bit\n"
      "  tqkv verify ./qwen --against mlx-community/Qwen3.5-35B-A3B-4bit\n"
      "  tqkv verify ./other --against mlx-community/Qwen3.5-2B-4bit --online");
  command->callback([options] { verify(*options); });
}

}  // namespace tqkv::cli
