#include <fmt/format.h>

#include <memory>
#include <string>

#include "base/numbers.h"
#include "cli/commands/commands.h"
#include "cli/options/number_checks.h"
#include "cli/session/fetching.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "hub/progress.h"
#include "hub/pull.h"
#include "loaders/published.h"
#include "measure/figures/text_table.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

struct PullArguments {
  std::string model;
  int connections = 4;
  bool dry_run = false;
};

std::string plan_text(const hub::PullPlan& plan, const std::filesystem::path& cache) {
  measure::TextTable table({"file", "bytes", "here"});
  for (const hub::PlannedFile& planned : plan.files)
    table.add({planned.file.path, grouped(planned.file.bytes), grouped(planned.kept)});
  const std::uint64_t missing = plan.missing_bytes();
  table.add({"all", grouped(plan.bytes()), grouped(plan.bytes() - missing)});
  return fmt::format("{} at {}\n{}to fetch: {} bytes ({}); free at {}: {} bytes ({}), {}\n", plan.name.id, plan.commit,
                     table.text("  "), grouped(missing), short_bytes(static_cast<double>(missing)), cache.string(),
                     grouped(plan.free_bytes), short_bytes(static_cast<double>(plan.free_bytes)),
                     missing <= plan.free_bytes ? "enough" : "too little");
}

/// The hub's plan, or where it does not answer the recorded one, with the reason as an error after it.
void dry_run(const hub::Settings& settings, const HubName& name) {
  const Interrupt interrupt;
  try {
    print(plan_text(hub::plan_pull(settings, name, interrupt.flag()), settings.cache));
  } catch (const Error& unreached) {
    const PublishedCheckpoint* published = published_checkpoint(name.id);
    if (unreached.kind() != ErrorKind::hub || published == nullptr || interrupt.requested() ||
        (name.revision != "main" && name.revision != published->revision))
      throw;
    print("from the recorded list, without the hub: " +
          plan_text(hub::plan_pull(settings, *published), settings.cache));
    throw;
  }
}

void pull(const PullArguments& options) {
  const auto name = parse_hub_name(options.model);
  if (!name)
    throw Error(
        ErrorKind::usage,
        fmt::format("tqkv pull: \"{}\" is no org/name[@revision] of a hub: see 'tqkv pull --help'", options.model));
  hub::Settings settings = hub::settings_from_environment();
  settings.connections = options.connections;
  if (options.dry_run) return dry_run(settings, *name);
  // Without a network, what is here is what there is.
  print((!settings.offline.empty() ? find_model(options.model) : fetch(settings, *name)).string() + "\n");
}

}  // namespace

void add_pull(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<PullArguments>();
  CLI::App* command = program.add_subcommand("pull", "Download a model from the Hugging Face hub");
  command->add_option("MODEL", options->model, "org/name, or org/name@revision: a branch, a tag or a commit")
      ->required()
      ->type_name("");
  command->add_option("--connections", options->connections, "Files to download at the same time")
      ->transform(whole_number(1, 16))
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--dry-run", options->dry_run, "Show what would be downloaded and the free disk space, and stop");
  command->footer(
      "Downloads only the files that are needed, resumes where the last run stopped, and checks every hash. Prints "
      "the\n"
      "folder of the files. The cache and the variables are those of huggingface_hub: HF_HUB_CACHE, HF_HOME,\n"
      "HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE. Proxies are those of curl: https_proxy, no_proxy.\n\n"
      "Examples:\n"
      "  tqkv pull mlx-community/Qwen3.5-35B-A3B-4bit\n"
      "  tqkv pull mlx-community/Qwen3.5-35B-A3B-4bit --dry-run\n"
      "  tqkv pull mlx-community/Qwen3.5-35B-A3B-4bit@1e20fd8d42056f870933bf98ca6211024744f7ec --connections 8");
  command->callback([options] { pull(*options); });
}

}  // namespace tqkv::cli
