#include "cli/session/fetching.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <optional>

#include "base/numbers.h"
#include "cli/session/startup.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "hub/progress.h"
#include "loaders/hub.h"
#include "tqkv/checkpoint.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

namespace fs = std::filesystem;

/// The bar on a terminal; elsewhere a line a file, and now and then one for a file that takes long.
class Display {
 public:
  explicit Display(const std::string& what) : what_(what) {}
  ~Display() { clear(); }
  Display(const Display&) = delete;
  Display& operator=(const Display&) = delete;

  hub::PullEvents events() {
    hub::PullEvents events;
    events.progress = [this](const hub::PullProgress& progress) { show(progress); };
    events.complete = [this](const hub::PlannedFile& file) {
      if (!terminal_ && file.kept < file.file.bytes)
        note(fmt::format("{}: {} bytes", file.file.path, grouped(file.file.bytes)));
    };
    events.waiting = [this](const hub::FileMetadata& file) {
      clear();
      note(fmt::format("{}: another process is downloading it: waiting", file.path));
    };
    return events;
  }

 private:
  static constexpr double seconds_between_lines = 15;
  static constexpr int bar_cells = 24;

  void show(const hub::PullProgress& progress) {
    const double now = seconds_since_start();
    rate_.add(hub::Rate::Time(now), progress.received);
    const std::string text = hub::progress_text(progress, rate_.bytes_per_second());
    if (terminal_) {
      show_status(fmt::format("{} {}", hub::progress_bar(progress, bar_cells), text));
      shown_ = true;
    } else if (now - last_line_ >= seconds_between_lines) {
      note(fmt::format("{}: {}", what_, text));
      last_line_ = now;
    }
  }

  void clear() {
    if (shown_) clear_status();
    shown_ = false;
  }

  std::string what_;
  hub::Rate rate_;
  bool terminal_ = error_shows_status();
  bool shown_ = false;
  double last_line_ = seconds_since_start();
};

[[noreturn]] void end_interrupted(const std::string& said) {
  note(said);
  throw CLI::RuntimeError(interrupted_exit_code);
}

hub::PullPlan plan(const hub::Settings& settings, const HubName& name, const Interrupt& interrupt) {
  try {
    return hub::plan_pull(settings, name, interrupt.flag());
  } catch (const Error&) {
    if (interrupt.requested()) end_interrupted("interrupted");
    throw;
  }
}

/// What is missing from a snapshot for a command with these needs.
std::string missing_for(const fs::path& snapshot, Needs needs) {
  std::error_code error;
  if (needs == Needs::everything) return missing_from(snapshot);
  return fs::exists(snapshot / "tokenizer.json", error) ? "" : "tokenizer.json";
}

}  // namespace

fs::path fetch(const hub::Settings& settings, const HubName& name) {
  const Interrupt interrupt;
  const hub::PullPlan planned = plan(settings, name, interrupt);
  const std::uint64_t missing = planned.missing_bytes();
  if (missing > 0)
    note(fmt::format("{}: fetching {} of {} in {} files to {}", name.text(), short_bytes(static_cast<double>(missing)),
                     short_bytes(static_cast<double>(planned.bytes())), planned.files.size(), settings.cache.string()));
  hub::PullResult result;
  {
    Display display(name.text());
    result = hub::pull(settings, planned, interrupt.flag(), display.events());
  }
  if (result.interrupted)
    end_interrupted(fmt::format("interrupted: {} of {} bytes are saved; 'tqkv pull {}' resumes from there",
                                grouped(result.progress.kept), grouped(result.progress.bytes), name.text()));
  if (missing > 0) note(fmt::format("{}: complete: {} bytes", name.text(), grouped(planned.bytes())));
  return result.snapshot;
}

fs::path find_model(const std::string& model, Needs needs) {
  std::error_code error;
  const auto name = parse_hub_name(model);
  if (!name || fs::exists(model, error)) return locate_model(model);
  std::string missing;
  std::exception_ptr absent;
  try {
    fs::path snapshot = find_in_hub_cache(*name, hub_cache());
    missing = missing_for(snapshot, needs);
    if (missing.empty()) return snapshot;
  } catch (const Error&) {
    absent = std::current_exception();
  }
  const hub::Settings settings = hub::settings_from_environment();
  if (!settings.offline.empty() && absent) std::rethrow_exception(absent);
  if (!settings.offline.empty())
    throw Error(ErrorKind::checkpoint,
                fmt::format("{}: has no {}: the download is incomplete, and {} is set: unset it to fetch the rest",
                            name->text(), missing, settings.offline));
  note(fmt::format("{}: not whole in the cache {}: asking {}", name->text(), settings.cache.string(),
                   settings.endpoint));
  return fetch(settings, *name);
}

}  // namespace tqkv::cli
