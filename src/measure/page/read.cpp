#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <set>

#include "loaders/json.h"
#include "measure/figures/statistics.h"
#include "measure/files/json_object.h"
#include "measure/files/machine.h"
#include "measure/page/data.h"
#include "measure/page/labels.h"
#include "measure/page/read.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

constexpr double most_speed = 1e9;  // tokens/s
constexpr double most_ratio = 1e6;

// Settings of a file that the page shows: all that are no object, in their order.
Source read_source(const JsonObject& top, const std::string& kind) {
  Source source;
  source.file = top.file();
  source.kind = kind;
  source.version = top.object("tool").text_or("version", "");
  const JsonObject model = top.object("model"), machine = top.object("machine");
  source.model = model.text("name");
  source.shape = model.text("shape");
  source.fingerprint = model.text("fingerprint");
  source.cpu = machine.text("cpu");
  source.device = device_of(machine);
  if (machine.has("memory")) source.memory = machine.count("memory");
  source.settings = top.object("settings").all_words();
  source.command = top.text_or("command", "");
  source.command_stored = !source.command.empty();
  return source;
}

std::string setting(const Source& source, std::string_view name) {
  for (const auto& [key, value] : source.settings) {
    if (key == name) return value;
  }
  return "";
}

Spread read_spread(const JsonObject& json, double most) {
  const Spread spread{json.number("median", 0, most), json.number("min", 0, most), json.number("max", 0, most)};
  if (!(spread.min <= spread.median && spread.median <= spread.max) || spread.max <= 0)
    refuse_file(json.file(), fmt::format("{} has min {}, median {} and max {}, which are in no order", json.place(),
                                         spread.min, spread.median, spread.max));
  return spread;
}

void read_lengths(const JsonObject& json, SpeedRun& run) {
  constexpr std::uint64_t most = 1 << 30;
  run.prompt_tokens = json.count("prompt_tokens", most);
  run.generation_tokens = json.count("generation_tokens", most);
  run.depth = json.count("depth", most);
}

void read_ratios(const JsonObject& json, SpeedRun& run) {
  const std::optional<JsonObject> ratio = json.object_or_none("ratio_to_baseline");
  if (!ratio) return;
  run.paired = ratio->truth_or("paired", false);
  if (const auto prompt = ratio->object_or_none("prompt_tps")) run.prompt_ratio = read_spread(*prompt, most_ratio);
  if (const auto decode = ratio->object_or_none("generation_tps"))
    run.generation_ratio = read_spread(*decode, most_ratio);
}

void read_quality(const JsonObject& json, SpeedRun& run) {
  run.mean_kl = json.number_or_none("mean_kl", 0, most_kl);
  run.same_top = json.number_or_none("same_top", 0, 1);
}

// A run of 'tqkv benchmark': figures are those of its samples.
SpeedRun read_run(const JsonObject& json) {
  SpeedRun run;
  run.file = json.file();
  run.format = json.text("format");
  read_lengths(json, run);
  const std::vector<JsonObject> trials = json.objects("trials");
  if (trials.empty()) refuse_file(json.file(), fmt::format("{} has no trials", json.place()));
  std::vector<double> prompt, generation;
  for (const JsonObject& trial : trials) {
    prompt.push_back(trial.number("prompt_tps", 1e-9, most_speed));
    if (const auto speed = trial.number_or_none("generation_tps", 1e-9, most_speed)) generation.push_back(*speed);
    run.cache_bytes = trial.count("cache_bytes");
    run.cache_bytes_used = trial.count("cache_bytes_used");
    run.peak_memory_gb = std::max(run.peak_memory_gb, trial.number("peak_memory_gb", 0, 1e9));
    if (const auto cache = trial.object_or_none("cache")) run.bytes = read_bytes(*cache);
  }
  run.trials = trials.size();
  run.prompt_tps = spread_of(std::move(prompt));
  if (generation.size() == trials.size()) run.generation_tps = spread_of(std::move(generation));
  read_ratios(json, run);
  read_quality(json, run);
  run.layers = read_layers(json);
  return run;
}

// A row of 'tqkv compare'.
SpeedRun read_row(const JsonObject& lengths, const JsonObject& json) {
  SpeedRun run;
  run.file = json.file();
  run.format = json.text("format");
  read_lengths(lengths, run);
  run.trials = json.count_or("trials", 0);
  run.prompt_tps = read_spread(json.object("prompt_tps"), most_speed);
  if (const auto decode = json.object_or_none("generation_tps")) run.generation_tps = read_spread(*decode, most_speed);
  run.cache_bytes = json.count("cache_bytes");
  run.cache_bytes_used = json.count("cache_bytes_used");
  run.peak_memory_gb = json.number("peak_memory_gb", 0, 1e9);
  read_ratios(json, run);
  read_quality(json, run);
  return run;
}

std::vector<SpeedRun> read_speeds(const JsonObject& top, const std::string& kind) {
  std::vector<SpeedRun> runs;
  if (kind == "benchmark") {
    for (const JsonObject& run : top.objects("runs")) runs.push_back(read_run(run));
  } else {
    for (const JsonObject& lengths : top.objects("lengths")) {
      for (const JsonObject& row : lengths.objects("rows")) runs.push_back(read_row(lengths, row));
    }
  }
  if (runs.empty()) refuse_file(top.file(), "contains no runs");
  return runs;
}

// "0,2048" of the values that runs have, each once.
std::string values_of(const std::vector<SpeedRun>& runs, const std::function<std::string(const SpeedRun&)>& get) {
  std::vector<std::string> values;
  for (const SpeedRun& run : runs) {
    const std::string value = get(run);
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  std::string text;
  for (const std::string& value : values) text += (text.empty() ? "" : ",") + value;
  return text;
}

// Files of 'tqkv benchmark' and 'tqkv compare' name no command: it follows from what they hold.
std::string command_of(const Source& source, const std::vector<SpeedRun>& runs) {
  if (source.kind == "comparison") return "tqkv compare " + setting(source, "files");
  std::string command =
      fmt::format("tqkv benchmark {} --backend {} --prompt-tokens {} --generation-tokens {}", source.model,
                  values_of(runs, [](const SpeedRun& run) { return run.format; }),
                  values_of(runs, [](const SpeedRun& run) { return std::to_string(run.prompt_tokens); }),
                  values_of(runs, [](const SpeedRun& run) { return std::to_string(run.generation_tokens); }));
  if (const auto depths = values_of(runs, [](const SpeedRun& run) { return std::to_string(run.depth); }); depths != "0")
    command += " --depth " + depths;
  command += fmt::format(" --trials {} --device {}", runs.front().trials, source.device.canonical());
  for (const auto& [option, name] :
       {std::pair{"--precision", "precision"}, {"--state", "state"}, {"--prefill-chunk", "prefill_chunk"}}) {
    if (const std::string value = setting(source, name); !value.empty())
      command += fmt::format(" {} {}", option, value);
  }
  constexpr std::string_view random = "random ids, seed ";
  if (const std::string ids = setting(source, "ids"); ids.rfind(random, 0) == 0)
    command += " --seed " + ids.substr(random.size());
  return command;
}

void add_speeds(const JsonObject& top, Source& source, ReportData& data) {
  std::vector<SpeedRun> runs = read_speeds(top, source.kind);
  if (source.kind == "comparison") {
    std::string files;
    for (const std::string& file : top.texts_or_none("files")) files += (files.empty() ? "" : " ") + file;
    source.settings.emplace_back("files", files);
  }
  if (!source.command_stored) source.command = command_of(source, runs);
  const std::vector<std::string> key = {source.fingerprint,        source.cpu,
                                        source.device.canonical(), setting(source, "precision"),
                                        setting(source, "state"),  setting(source, "prefill_chunk")};
  auto group = std::find_if(data.speeds.begin(), data.speeds.end(), [&](const SpeedGroup& g) { return g.key == key; });
  if (group == data.speeds.end()) {
    SpeedGroup fresh;
    fresh.key = key;
    fresh.model = source.model;
    fresh.cpu = source.cpu;
    fresh.device = source.device.canonical();
    fresh.precision = setting(source, "precision");
    fresh.title = fmt::format("{} on {}, {}, {} precision", source.model, source.cpu, fresh.device, fresh.precision);
    group = data.speeds.insert(data.speeds.end(), std::move(fresh));
  }
  group->files.push_back(source.file);
  group->runs.insert(group->runs.end(), runs.begin(), runs.end());
}

void read_file(const ReportFile& file, ReportData& data) {
  const nlohmann::json json = parse_json(file.text, file.name, ErrorKind::input);
  const JsonObject top(file.name, json, "the file");
  const std::string kind = top.text_or("kind", "");
  if (kind != "evaluation" && kind != "benchmark" && kind != "comparison" && kind != "tuning") {
    refuse_file(file.name, kind.empty()
                               ? std::string("has no 'kind': a file that 'tqkv evaluate', 'tqkv benchmark', 'tqkv "
                                             "compare' or 'tqkv tune' wrote with --output was expected")
                               : fmt::format("is of the kind '{}', an evaluation, a benchmark, a comparison or a "
                                             "tuning was expected",
                                             kind.substr(0, 60)));
  }
  if (const std::uint64_t schema = top.count("schema"); schema != 1)
    refuse_file(file.name, fmt::format("has schema {}, this version of tqkv reads schema 1", schema));
  Source source = read_source(top, kind);
  if (kind == "evaluation") {
    add_evaluation(top, source, data);
  } else if (kind == "tuning") {
    data.tunings.push_back(read_tuning(top, source));
  } else {
    add_speeds(top, source, data);
  }
  data.sources.push_back(std::move(source));
}

// The same format from several files in one group: the file tells them apart.
template <class Run, class Same>
void mark_repeated(std::vector<Run>& runs, const Same& same) {
  for (Run& run : runs) {
    const auto count = std::count_if(runs.begin(), runs.end(), [&](const Run& other) { return same(run, other); });
    if (count < 2) continue;
    const std::size_t slash = run.file.find_last_of('/');
    run.name += fmt::format(" ({})", slash == std::string::npos ? run.file : run.file.substr(slash + 1));
  }
}

void name_formats(ReportData& data) {
  const auto add = [&](const std::string& format) {
    if (std::find(data.formats.begin(), data.formats.end(), format) == data.formats.end())
      data.formats.push_back(format);
  };
  for (const EvaluationGroup& evaluation : data.evaluations) {
    for (const QualityRun& run : evaluation.runs) add(run.format);
    for (const CodecEntry& entry : evaluation.codec) add(entry.format);
    for (const CapturedEntry& entry : evaluation.captured) add(entry.figures.format);
  }
  for (const SpeedGroup& group : data.speeds) {
    for (const SpeedRun& run : group.runs) add(run.format);
  }
  const std::map<std::string, std::string> names = short_names(data.formats);
  for (EvaluationGroup& evaluation : data.evaluations) {
    for (QualityRun& run : evaluation.runs) run.name = names.at(run.format);
    for (CodecEntry& entry : evaluation.codec) entry.name = names.at(entry.format);
    for (CapturedEntry& entry : evaluation.captured) entry.name = names.at(entry.figures.format);
    mark_repeated(evaluation.runs, [](const QualityRun& a, const QualityRun& b) {
      return a.format == b.format && a.precision == b.precision;
    });
  }
  for (SpeedGroup& group : data.speeds) {
    for (SpeedRun& run : group.runs) run.name = names.at(run.format);
    mark_repeated(group.runs, [](const SpeedRun& a, const SpeedRun& b) {
      return a.format == b.format && a.prompt_tokens == b.prompt_tokens && a.generation_tokens == b.generation_tokens &&
             a.depth == b.depth;
    });
  }
}

}  // namespace

KindsOfBytes read_bytes(const JsonObject& json) {
  KindsOfBytes bytes{json.count("kv_used"), json.count("kv_allocated"), json.count("recurrent"),
                     json.count("convolution")};
  if (bytes.kv_used > bytes.kv_allocated)
    refuse_file(json.file(), fmt::format("{} uses {} bytes of {} that are allocated", json.place(), bytes.kv_used,
                                         bytes.kv_allocated));
  return bytes;
}

std::vector<StoredLayer> read_layers(const JsonObject& json) {
  std::vector<StoredLayer> layers;
  for (const JsonObject& layer : json.objects_or_none("layers"))
    layers.push_back({layer.count("layer", 1 << 20), layer.text("k"), layer.text("v")});
  return layers;
}

ReportData read_report_files(std::span<const ReportFile> files) {
  if (files.empty()) throw Error(ErrorKind::usage, "report: no files were given");
  ReportData data;
  for (const ReportFile& file : files) {
    const auto given =
        std::count_if(files.begin(), files.end(), [&](const ReportFile& f) { return f.name == file.name; });
    if (given > 1) throw Error(ErrorKind::usage, fmt::format("report: {} is given {} times", file.name, given));
    read_file(file, data);
  }
  name_formats(data);
  return data;
}

}  // namespace tqkv::measure
