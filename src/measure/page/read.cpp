#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <set>

#include "measure/files/speed_fields.h"
#include "measure/page/data.h"
#include "measure/page/labels.h"
#include "measure/page/read.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

Source source_of(const MeasuredFile& file, const std::string& name) {
  Source source;
  static_cast<Measured&>(source) = file.measured();
  source.file = name;
  source.kind = file.kind();
  source.version = file.version();
  source.settings = file.settings().all_words();
  source.command_stored = !source.command.empty();
  return source;
}

std::string setting(const Source& source, std::string_view name) {
  for (const auto& [key, value] : source.settings) {
    if (key == name) return value;
  }
  return "";
}

SpeedRun speed_of(const BenchmarkRun& run) {
  SpeedRun speed;
  speed.format = run.format;
  speed.lengths = run.lengths;
  speed.trials = static_cast<int>(run.trials.size());
  speed.prompt_tps = spread_of(run.prompt_tps());
  if (const std::vector<double> decode = run.generation_tps(); !decode.empty())
    speed.generation_tps = spread_of(decode);
  speed.ratios = run.ratios;
  speed.bytes = run.trials.back().cache;
  speed.cache_bytes = speed.bytes->allocated();
  speed.cache_bytes_used = speed.bytes->used();
  speed.peak_memory_gb = static_cast<double>(run.trials.back().weights + run.peak_anonymous()) / 1e9;
  if (run.quality) {
    speed.mean_kl = run.quality->mean_kl;
    speed.same_top = run.quality->same_top;
  }
  speed.layers = run.layers;
  return speed;
}

SpeedRun speed_of(const Lengths& lengths, const ComparedRun& run) {
  SpeedRun speed;
  speed.format = run.format;
  speed.lengths = lengths;
  speed.trials = run.trials;
  speed.prompt_tps = run.prompt_tps;
  speed.generation_tps = run.generation_tps;
  speed.ratios = run.ratios;
  speed.cache_bytes = run.cache_bytes;
  speed.cache_bytes_used = run.cache_bytes_used;
  speed.peak_memory_gb = run.peak_memory_gb;
  speed.mean_kl = run.mean_kl;
  speed.same_top = run.same_top;
  return speed;
}

std::vector<SpeedRun> speeds_of(const BenchmarkFigures& figures) {
  std::vector<SpeedRun> runs;
  for (const BenchmarkRun& run : figures.runs) runs.push_back(speed_of(run));
  return runs;
}

std::vector<SpeedRun> speeds_of(const ComparisonFigures& figures) {
  std::vector<SpeedRun> runs;
  for (const ComparedLengths& lengths : figures.lengths) {
    for (const ComparedRun& run : lengths.runs) runs.push_back(speed_of(lengths.lengths, run));
  }
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
                  values_of(runs, [](const SpeedRun& run) { return std::to_string(run.lengths.prompt_tokens); }),
                  values_of(runs, [](const SpeedRun& run) { return std::to_string(run.lengths.generation_tokens); }));
  if (const auto depths = values_of(runs, [](const SpeedRun& run) { return std::to_string(run.lengths.depth); });
      depths != "0")
    command += " --depth " + depths;
  command += fmt::format(" --trials {} --device {}", runs.front().trials, source.device.device.canonical());
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

template <class Figures>
std::vector<SpeedRun> read_speeds(const MeasuredFile& file) {
  Figures figures;
  take(file.top(), figures);
  std::vector<SpeedRun> runs = speeds_of(figures);
  for (SpeedRun& run : runs) run.file = file.top().file();
  return runs;
}

void add_speeds(const MeasuredFile& file, Source& source, ReportData& data) {
  const bool comparison = source.kind == "comparison";
  const std::vector<SpeedRun> runs =
      comparison ? read_speeds<ComparisonFigures>(file) : read_speeds<BenchmarkFigures>(file);
  if (comparison) source.settings.emplace_back("files", fmt::format("{}", fmt::join(file.top().texts("files"), " ")));
  if (!source.command_stored) source.command = command_of(source, runs);
  const std::vector<std::string> key = {
      source.fingerprint,           source.processor(),       source.device.device.canonical(),
      setting(source, "precision"), setting(source, "state"), setting(source, "prefill_chunk")};
  auto group = std::find_if(data.speeds.begin(), data.speeds.end(), [&](const SpeedGroup& g) { return g.key == key; });
  if (group == data.speeds.end()) {
    SpeedGroup fresh;
    fresh.key = key;
    fresh.model = source.model;
    fresh.cpu = source.processor();
    fresh.device = source.device.device.canonical();
    fresh.precision = setting(source, "precision");
    fresh.title =
        fmt::format("{} on {}, {}, {} precision", source.model, source.processor(), fresh.device, fresh.precision);
    group = data.speeds.insert(data.speeds.end(), std::move(fresh));
  }
  group->files.push_back(source.file);
  group->runs.insert(group->runs.end(), runs.begin(), runs.end());
}

void read_file(const ReportFile& file, ReportData& data) {
  constexpr std::string_view kinds[] = {"evaluation", "benchmark", "comparison", "tuning"};
  const MeasuredFile read(file.name, file.text, kinds,
                          "a file that 'tqkv evaluate', 'tqkv benchmark', 'tqkv compare' or 'tqkv tune' wrote with "
                          "--output");
  Source source = source_of(read, file.name);
  if (source.kind == "evaluation") {
    add_evaluation(read, source, data);
  } else if (source.kind == "tuning") {
    data.tunings.push_back(read_tuning(read));
  } else {
    add_speeds(read, source, data);
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
    mark_repeated(group.runs,
                  [](const SpeedRun& a, const SpeedRun& b) { return a.format == b.format && a.lengths == b.lengths; });
  }
}

}  // namespace

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
