#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "base/numbers.h"
#include "cli/commands/commands.h"
#include "cli/terminal/input.h"
#include "cli/terminal/output.h"
#include "hub/stored.h"
#include "measure/figures/text_table.h"
#include "runtime/plan/running.h"
#include "tqkv/checkpoint.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct ModelsArguments {
  std::string action, model;
  bool json = false, yes = false;
};

/// The bundled model and its bytes, if it is there.
struct Bundled {
  fs::path folder;
  std::uint64_t bytes = 0;
};
std::optional<Bundled> bundled() {
  Bundled model;
  try {
    model.folder = locate_model("pocket");
  } catch (const Error&) {
    return std::nullopt;
  }
  std::error_code error;
  fs::directory_iterator entry(model.folder, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    std::error_code failed;
    if (const std::uint64_t bytes = entry->file_size(failed); !failed) model.bytes += bytes;
  }
  return model;
}

std::string short_size(std::uint64_t bytes) {
  return short_bytes(static_cast<double>(bytes));
}

std::string revision_text(const hub::StoredRevision& revision) {
  const std::string commit = revision.commit.substr(0, 12);
  return revision.names.empty() ? commit : fmt::format("{} ({})", fmt::join(revision.names, ", "), commit);
}

std::string table(const std::vector<hub::StoredModel>& models, const fs::path& cache) {
  measure::TextTable table({"model", "size", "revision", "state"});
  if (const auto pocket = bundled()) table.add({"pocket", short_size(pocket->bytes), "bundled", "whole"});
  std::uint64_t bytes = 0;
  for (const hub::StoredModel& model : models) {
    bytes += model.bytes;
    const std::string unfinished =
        model.unfinished == 0 ? "" : fmt::format("; {} of an unfinished download", short_size(model.unfinished));
    if (model.revisions.empty()) table.add({model.id, short_size(model.bytes), "", "partial" + unfinished});
    for (const hub::StoredRevision& revision : model.revisions) {
      const bool first = &revision == &model.revisions.front();
      const std::string state = revision.missing.empty() ? "whole" : "partial: no " + revision.missing;
      table.add({first ? model.id : "", first ? short_size(model.bytes) : "", revision_text(revision),
                 first ? state + unfinished : state});
    }
  }
  return fmt::format("{}{} model{} in {}: {}\n", table.text(""), models.size(), models.size() == 1 ? "" : "s",
                     cache.empty() ? "the cache" : cache.string(), short_size(bytes));
}

std::string list_json(const std::vector<hub::StoredModel>& models, const fs::path& cache) {
  json list = json::array();
  if (const auto pocket = bundled())
    list.push_back({{"name", "pocket"},
                    {"bundled", true},
                    {"whole", true},
                    {"bytes", pocket->bytes},
                    {"unfinished_bytes", 0},
                    {"folder", pocket->folder.string()},
                    {"revisions", json::array()}});
  for (const hub::StoredModel& model : models) {
    json revisions = json::array();
    for (const hub::StoredRevision& revision : model.revisions)
      revisions.push_back({{"commit", revision.commit},
                           {"names", revision.names},
                           {"bytes", revision.bytes},
                           {"missing", revision.missing.empty() ? json() : json(revision.missing)}});
    list.push_back({{"name", model.id},
                    {"bundled", false},
                    {"whole", model.whole()},
                    {"bytes", model.bytes},
                    {"unfinished_bytes", model.unfinished},
                    {"folder", model.folder.string()},
                    {"revisions", std::move(revisions)}});
  }
  const json object = {{"cache", cache.string()}, {"models", std::move(list)}};
  return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

/// A person at a terminal says yes.
bool agreed() {
  print_error("tqkv: remove it? [y/N] ");
  Lines lines("-");
  std::string line;
  if (!lines.next(line)) print_error("\n");
  return line == "y" || line == "Y" || line == "yes";
}

void say_who_runs_it(const fs::path& folder) {
  std::error_code error;
  const std::string inside = fs::canonical(folder, error).string() + "/";
  for (const RunningProcess& process : running_processes())
    if (process.directory.string().starts_with(inside))
      note(fmt::format("process {} runs it: that one keeps its files until it ends", process.pid));
}

void remove(const ModelsArguments& options) {
  const auto name = parse_hub_name(options.model);
  if (!name)
    throw Error(ErrorKind::usage,
                options.model == "pocket"
                    ? std::string("tqkv models remove: pocket is bundled with the program: only models of the cache "
                                  "can be removed")
                    : fmt::format("tqkv models remove: \"{}\" is no org/name[@revision]: 'tqkv models' lists those "
                                  "that can be removed",
                                  options.model));
  const fs::path cache = hub_cache();
  const bool everything = options.model.find('@') == std::string::npos && name->revision == "main";
  const hub::Removal removal = hub::plan_removal(cache, *name, everything);
  const std::string what =
      removal.everything ? name->id : fmt::format("{} at {}", name->id, fmt::join(removal.commits, ", "));
  note(fmt::format("{}: {} in {}", what, short_size(removal.bytes), removal.folder.string()));
  say_who_runs_it(removal.folder);
  if (!options.yes) {
    if (::isatty(STDIN_FILENO) != 1)
      throw Error(ErrorKind::usage, "tqkv models remove: nobody can be asked here: give --yes to remove it");
    if (!agreed()) {
      note("nothing was removed");
      throw CLI::RuntimeError(1);
    }
  }
  hub::remove(cache, removal);
  note(fmt::format("{}: removed, {} are free again", what, short_size(removal.bytes)));
}

void models(const ModelsArguments& options) {
  if (options.action == "remove") {
    if (options.json) throw Error(ErrorKind::usage, "tqkv models remove: --json belongs to the list: leave it out");
    if (options.model.empty())
      throw Error(ErrorKind::usage, "tqkv models remove: NAME is missing: 'tqkv models' lists what can be removed");
    return remove(options);
  }
  if (options.yes) throw Error(ErrorKind::usage, "tqkv models: --yes belongs to 'tqkv models remove NAME'");
  const fs::path cache = hub_cache();
  const std::vector<hub::StoredModel> stored = hub::stored_models(cache);
  print(options.json ? list_json(stored, cache) : table(stored, cache));
}

}  // namespace

void add_models(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<ModelsArguments>();
  CLI::App* command = program.add_subcommand("models", "List the models in the local cache, or remove one");
  command->add_option("ACTION", options->action, "remove, to remove the model NAME; without it they are listed")
      ->check(CLI::IsMember({"remove"}))
      ->type_name("");
  command->add_option("NAME", options->model, "org/name; org/name@revision removes this revision alone")->type_name("");
  command->add_flag("--json", options->json, "The list as JSON");
  command->add_flag("--yes", options->yes, "Remove without asking");
  command->footer(
      "Sizes are bytes on the disk. A model is partial when its download was cut: 'tqkv pull NAME' resumes it. Files\n"
      "that another revision of a model also has stay. The cache is that of huggingface_hub.\n\n"
      "Examples:\n"
      "  tqkv models\n"
      "  tqkv models remove mlx-community/Qwen3.5-35B-A3B-4bit\n"
      "  tqkv models remove org/name@v1.0 --yes");
  command->callback([options] { models(*options); });
}

}  // namespace tqkv::cli
