#include "hub/verify.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/numbers.h"
#include "commands.h"
#include "hub/progress.h"
#include "interrupt.h"
#include "output.h"
#include "tqkv/checkpoint.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, against;
  bool online = false;
};

std::optional<hub::ExpectedFiles> recorded(const HubName& name, const std::string& commit) {
  const PublishedCheckpoint* published = published_checkpoint(name.id);
  if (published == nullptr || published->revision != commit) return std::nullopt;
  return hub::expected_files(*published);
}

/// What a hub, or the list that is recorded of it, says of `name`.
hub::ExpectedFiles expected_of(const HubName& name, bool online, const Interrupt& interrupt) {
  const PublishedCheckpoint* published = published_checkpoint(name.id);
  if (!online && published != nullptr && (name.revision == "main" || name.revision == published->revision))
    return hub::expected_files(*published);
  return hub::expected_files(hub::settings_from_environment(), name, interrupt.flag());
}

hub::ExpectedFiles expected_of_folder(const fs::path& folder) {
  if (auto expected = hub::expected_files(folder)) return *expected;
  // A checkpoint that is known is recognized by its config.
  std::error_code error;
  if (fs::is_regular_file(folder / "config.json", error))
    if (const PublishedCheckpoint* published = published_with_config(hub::sha256_of(folder / "config.json")))
      return hub::expected_files(*published);
  throw Error(ErrorKind::checkpoint,
              fmt::format("{}: is no checkpoint whose hashes are recorded: say with --against org/name whose files it "
                          "should have",
                          folder.string()));
}

hub::ExpectedFiles expected_for(const Options& options, const fs::path& folder, const Interrupt& interrupt) {
  const auto model = parse_hub_name(options.model);
  std::error_code error;
  const bool from_cache = model && !fs::exists(options.model, error);
  if (!options.against.empty()) {
    const auto name = parse_hub_name(options.against);
    if (!name)
      throw Error(ErrorKind::usage,
                  fmt::format("tqkv verify: --against: \"{}\" is no org/name[@revision] of a hub", options.against));
    return expected_of(*name, options.online, interrupt);
  }
  if (from_cache) {
    // The commit that is here, whatever the branch has become since.
    const std::string commit = folder.filename().string();
    if (options.online) return expected_of({model->id, commit}, true, interrupt);
    if (auto list = recorded(*model, commit)) return *list;
  }
  return expected_of_folder(folder);
}

void verify(const Options& options) {
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
  const auto options = std::make_shared<Options>();
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
