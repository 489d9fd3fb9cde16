#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cache/names.h"
#include "measure/benchmark/benchmark.h"
#include "measure/benchmark/table_text.h"
#include "measure/figures/statistics.h"
#include "measure/figures/text_table.h"
#include "measure/files/json_object.h"
#include "measure/files/machine.h"
#include "tqkv/error.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw Error(ErrorKind::input, fmt::format("{}: {}", file, what));
}

// A file comes from outside: every value is checked for its type where it is taken.
class Reader {
 public:
  Reader(const std::string& file, const Json& json, std::string path)
      : file_(file), json_(json), path_(std::move(path)) {
    if (!json.is_object())
      refuse(file_, fmt::format("{} is no JSON object: a file of 'tqkv benchmark' was expected", path_));
  }
  const std::string& file() const { return file_; }
  const Json& get(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) {
      refuse(file_, fmt::format("{} has no '{}': a file of 'tqkv benchmark' was expected", path_, key));
    }
    return *found;
  }
  Reader object(const char* key) const { return Reader(file_, get(key), fmt::format("{}.{}", path_, key)); }
  const Json& array(const char* key) const {
    const Json& value = get(key);
    if (!value.is_array() || value.empty()) wrong(key, "a list that is not empty");
    return value;
  }
  std::string text(const char* key) const {
    const Json& value = get(key);
    if (!value.is_string()) wrong(key, "a text");
    return value.get<std::string>();
  }
  std::uint64_t count(const char* key) const {
    const Json& value = get(key);
    if (!value.is_number_unsigned()) wrong(key, "a number of 0 or more");
    return value.get<std::uint64_t>();
  }
  int small_count(const char* key) const {
    const std::uint64_t value = count(key);
    if (value > 1u << 30) wrong(key, "a smaller number");
    return static_cast<int>(value);
  }
  std::optional<double> number_or_null(const char* key) const {
    const Json& value = get(key);
    if (value.is_null()) return std::nullopt;
    if (!value.is_number()) wrong(key, "a number or null");
    return value.get<double>();
  }
  double not_negative(const char* key) const {
    const std::optional<double> value = number_or_null(key);
    if (!value || !(*value >= 0)) wrong(key, "a number of 0 or more");
    return *value;
  }
  double positive(const char* key) const {
    const std::optional<double> value = number_or_null(key);
    if (!value || !(*value > 0)) wrong(key, "a number above 0");
    return *value;
  }

 private:
  [[noreturn]] void wrong(const char* key, const char* expected) const {
    refuse(file_, fmt::format("{}.{} is {}, {} was expected", path_, key, get(key).dump(), expected));
  }
  const std::string& file_;
  const Json& json_;
  std::string path_;
};

struct Key {
  int prompt_tokens = 0, generation_tokens = 0, depth = 0;
  bool operator==(const Key&) const = default;
};

struct Run {
  std::string file, backend, format, ids_digest;
  Key key;
  std::vector<double> prompt_tps, generation_tps;  // the latter empty for one generated token
  std::uint64_t cache_bytes = 0, cache_bytes_used = 0;
  double weights_gb = 0, peak_anonymous_gb = 0;
  std::optional<Quality> quality;
};

// What must be the same in all files for their figures to stand side by side.
struct Setting {
  const char* what;
  std::string value;
};

struct File {
  std::string name;
  std::string model, shape, cpu, precision, state, ids;
  Device device;
  int prefill_chunk = 0;
  std::vector<Setting> settings;
  std::vector<Run> runs;
  std::vector<Key> keys;  // in order, each once
};

Run read_run(const Reader& json) {
  Run run;
  run.file = json.file();
  run.backend = json.text("backend");
  run.format = json.text("format");
  run.ids_digest = json.text("ids_digest");
  run.key = {json.small_count("prompt_tokens"), json.small_count("generation_tokens"), json.small_count("depth")};
  const Json& trials = json.array("trials");
  for (std::size_t i = 0; i < trials.size(); ++i) {
    const Reader trial(run.file, trials[i], fmt::format("trials[{}]", i));
    run.prompt_tps.push_back(trial.positive("prompt_tps"));
    if (run.key.generation_tokens > 1) run.generation_tps.push_back(trial.positive("generation_tps"));
    run.cache_bytes = trial.count("cache_bytes");
    run.cache_bytes_used = trial.count("cache_bytes_used");
    run.weights_gb = trial.not_negative("weights_gb");
    run.peak_anonymous_gb = std::max(run.peak_anonymous_gb, trial.not_negative("peak_anonymous_gb"));
  }
  const std::optional<double> mean_kl = json.number_or_null("mean_kl"), same_top = json.number_or_null("same_top");
  if (mean_kl && same_top) run.quality = Quality{json.small_count("quality_rows"), *mean_kl, *same_top};
  return run;
}

File read_file(const BenchmarkFile& source) {
  const Json json = Json::parse(source.text, nullptr, false);
  if (json.is_discarded()) refuse(source.name, "is no valid JSON: a file of 'tqkv benchmark' was expected");
  const Reader top(source.name, json, "the file");
  const Json& schema = top.get("schema");
  if (schema != 1) {
    refuse(source.name, fmt::format("has schema {}, this version of tqkv reads schema 1", schema.dump()));
  }
  if (const std::string kind = top.text("kind"); kind != "benchmark") {
    refuse(source.name, fmt::format("is a {} file, a benchmark file was expected", kind));
  }
  File file;
  file.name = source.name;
  const Reader model = top.object("model"), machine = top.object("machine"), settings = top.object("settings");
  file.model = model.text("name");
  file.shape = model.text("shape");
  file.cpu = machine.text("cpu");
  const nlohmann::json machine_fields = top.get("machine");
  file.device = device_of(JsonObject(source.name, machine_fields, "machine"));
  file.precision = settings.text("precision");
  file.state = settings.text("state");
  file.prefill_chunk = settings.small_count("prefill_chunk");
  file.ids = settings.text("ids");
  file.settings = {{"model fingerprint", model.text("fingerprint")},
                   {"processor", file.cpu},
                   {"device", file.device.canonical()},
                   {"precision", file.precision},
                   {"state type", file.state},
                   {"prefill chunk", std::to_string(file.prefill_chunk)}};
  const Json& runs = top.array("runs");
  for (std::size_t i = 0; i < runs.size(); ++i) {
    file.runs.push_back(read_run(Reader(source.name, runs[i], fmt::format("runs[{}]", i))));
    const Key& key = file.runs.back().key;
    if (std::find(file.keys.begin(), file.keys.end(), key) == file.keys.end()) file.keys.push_back(key);
  }
  return file;
}

std::string lengths_text(const Key& key) {
  return measure::lengths_text(key.prompt_tokens, key.generation_tokens, key.depth);
}

void require_comparable(const File& first, const File& other) {
  for (std::size_t i = 0; i < first.settings.size(); ++i) {
    if (first.settings[i].value == other.settings[i].value) continue;
    refuse(other.name,
           fmt::format("the {} is {}, but {} in {}: only runs of one model on one machine with one setting "
                       "can be compared",
                       first.settings[i].what, other.settings[i].value, first.settings[i].value, first.name));
  }
  const auto missing = [](const File& from, const File& in) -> const Key* {
    for (const Key& key : from.keys) {
      if (std::find(in.keys.begin(), in.keys.end(), key) == in.keys.end()) return &key;
    }
    return nullptr;
  };
  if (const Key* key = missing(first, other)) {
    refuse(other.name, fmt::format("has no run of {}, as {} has: only equal lengths can be compared",
                                   lengths_text(*key), first.name));
  }
  if (const Key* key = missing(other, first)) {
    refuse(other.name, fmt::format("has a run of {}, but {} does not: only equal lengths can be compared",
                                   lengths_text(*key), first.name));
  }
}

bool is_baseline(const Run& run) {
  return run.backend == name(Backend::baseline);
}

struct Ratios {
  bool paired = false;
  Spread prompt;
  std::optional<Spread> generation;
};

// Paired when both ran in one file, round by round; else from the medians of two runs.
std::optional<Ratios> ratios_of(const Run& run, const std::vector<const Run*>& group) {
  const Run* baseline = nullptr;
  for (const Run* other : group) {
    if (is_baseline(*other) && (baseline == nullptr || other->file == run.file)) {
      if (baseline == nullptr || baseline->file != run.file) baseline = other;
    }
  }
  if (baseline == nullptr) return std::nullopt;
  Ratios ratios;
  ratios.paired = baseline->file == run.file && baseline->prompt_tps.size() == run.prompt_tps.size();
  const auto ratio = [&](const std::vector<double>& samples, const std::vector<double>& reference) {
    return ratios.paired ? paired_ratio(samples, reference) : unpaired_ratio(spread_of(samples), spread_of(reference));
  };
  ratios.prompt = ratio(run.prompt_tps, baseline->prompt_tps);
  if (!run.generation_tps.empty()) ratios.generation = ratio(run.generation_tps, baseline->generation_tps);
  return ratios;
}

Json json_of(const std::optional<Spread>& spread) {
  if (!spread) return nullptr;
  return {{"median", spread->median}, {"min", spread->min}, {"max", spread->max}};
}

struct Group {
  Key key;
  std::vector<const Run*> runs;
};

std::vector<Group> grouped_runs(const std::vector<File>& files) {
  std::vector<Group> groups;
  for (const Key& key : files.front().keys) {
    Group group{key, {}};
    for (const File& file : files) {
      for (const Run& run : file.runs) {
        if (run.key == key) group.runs.push_back(&run);
      }
    }
    for (const Run* run : group.runs) {
      if (run->ids_digest == group.runs.front()->ids_digest) continue;
      refuse(run->file, fmt::format("fed other ids than {} in the run of {}: give both the same --seed or --text",
                                    group.runs.front()->file, lengths_text(key)));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

// One length: two tables, and the rows of the summary.
std::string table_of(const Group& group, Json& rows, bool& unpaired) {
  std::vector<std::string> header = speed_header();
  TextTable speed(header), cost(cost_header());
  std::vector<std::string> formats;
  for (const Run* run : group.runs) formats.push_back(run->format);
  const auto names = cache::short_names(formats);
  const auto reference =
      std::find_if(group.runs.begin(), group.runs.end(), [](const Run* run) { return is_baseline(*run); });
  for (const Run* run : group.runs) {
    ReportRow row;
    row.label = names.at(run->format);
    if (std::count(formats.begin(), formats.end(), run->format) > 1) row.label += fmt::format(" ({})", run->file);
    row.prompt_tps = spread_of(run->prompt_tps);
    if (!run->generation_tps.empty()) row.generation_tps = spread_of(run->generation_tps);
    const std::optional<Ratios> ratios = ratios_of(*run, group.runs);
    if (ratios && *reference != run) {
      row.prompt_ratio = ratios->prompt;
      row.generation_ratio = ratios->generation;
      unpaired = unpaired || !ratios->paired;
    } else if (ratios) {
      row.prompt_ratio = Spread{1, 1, 1};
      if (row.generation_tps) row.generation_ratio = Spread{1, 1, 1};
    }
    row.cache_bytes = run->cache_bytes;
    row.cache_bytes_used = run->cache_bytes_used;
    if (reference != group.runs.end()) row.baseline_cache_bytes = (*reference)->cache_bytes;
    row.weights_gb = run->weights_gb;
    row.peak_anonymous_gb = run->peak_anonymous_gb;
    row.quality = run->quality;
    speed.add(speed_row(row));
    cost.add(cost_row(row));

    Json ratio = nullptr;
    if (ratios) {
      ratio = {{"paired", ratios->paired},
               {"prompt_tps", json_of(row.prompt_ratio)},
               {"generation_tps", json_of(row.generation_ratio)}};
    }
    rows.push_back({{"backend", run->backend},
                    {"format", run->format},
                    {"file", run->file},
                    {"trials", run->prompt_tps.size()},
                    {"prompt_tps", json_of(row.prompt_tps)},
                    {"generation_tps", json_of(row.generation_tps)},
                    {"cache_bytes", run->cache_bytes},
                    {"cache_bytes_used", run->cache_bytes_used},
                    {"peak_memory_gb", run->weights_gb + run->peak_anonymous_gb},
                    {"mean_kl", run->quality ? Json(run->quality->mean_kl) : Json(nullptr)},
                    {"same_top", run->quality ? Json(run->quality->same_top) : Json(nullptr)},
                    {"ratio_to_baseline", std::move(ratio)}});
  }
  std::string out = lengths_text(group.key) + ": median (min - max)\n" + speed.text("  ") + "\n" + cost.text("  ");
  if (group.key.generation_tokens < 128) out += short_decode_note;
  return out;
}

}  // namespace

Comparison compare(std::span<const BenchmarkFile> sources) {
  if (sources.empty()) throw Error(ErrorKind::usage, "compare: no files were given");
  std::vector<File> files;
  for (const BenchmarkFile& source : sources) files.push_back(read_file(source));
  for (const File& file : files) require_comparable(files.front(), file);
  const File& first = files.front();
  const std::vector<Group> groups = grouped_runs(files);

  DeviceReport device;
  device.device = first.device;
  device.values = {{"cpu", first.cpu}};
  device.precision = first.precision == name(Precision::f32) ? Precision::f32 : Precision::fast;
  const StateType state = first.state == name(StateType::bf16) ? StateType::bf16 : StateType::f32;
  Comparison comparison;
  comparison.table = heading(first.model, first.shape, device, state, first.prefill_chunk, first.ids);

  bool unpaired = false, baseline = true;
  Json lengths = Json::array();
  for (const Group& group : groups) {
    Json rows = Json::array();
    comparison.table += "\n" + table_of(group, rows, unpaired);
    lengths.push_back({{"prompt_tokens", group.key.prompt_tokens},
                       {"generation_tokens", group.key.generation_tokens},
                       {"depth", group.key.depth},
                       {"decode_figure", group.key.generation_tokens >= 128},
                       {"rows", std::move(rows)}});
    baseline =
        baseline && std::any_of(group.runs.begin(), group.runs.end(), [](const Run* run) { return is_baseline(*run); });
  }
  if (unpaired) {
    comparison.table +=
        "\nunpaired: the ratios come from separate runs, so a drift of the machine between them counts as "
        "a difference\n";
  }
  if (!baseline) comparison.table += "\nno ratios: none of the files contains a run of the baseline backend\n";

  Json names = Json::array();
  for (const File& file : files) names.push_back(file.name);
  const Json model = Json::parse(sources.front().text)["model"], machine = Json::parse(sources.front().text)["machine"];
  const Json summary = {{"schema", 1},
                        {"kind", "comparison"},
                        {"tool", {{"name", "tqkv"}, {"version", version}}},
                        {"model", model},
                        {"machine", machine},
                        {"settings",
                         {{"precision", first.precision},
                          {"state", first.state},
                          {"prefill_chunk", first.prefill_chunk},
                          {"ids", first.ids}}},
                        {"files", std::move(names)},
                        {"unpaired", unpaired},
                        {"lengths", std::move(lengths)}};
  comparison.json = summary.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return comparison;
}

}  // namespace tqkv::measure
