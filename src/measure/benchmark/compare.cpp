#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cache/names.h"
#include "measure/benchmark/benchmark.h"
#include "measure/benchmark/table_text.h"
#include "measure/figures/text_table.h"
#include "measure/files/measured.h"
#include "measure/files/speed_fields.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

// What must be the same in all files for their figures to stand side by side.
struct Setting {
  const char* what;
  std::string value;
};

struct File {
  std::string name;
  Measured measured;
  std::string precision, state, ids;
  int prefill_chunk = 0;
  std::vector<Setting> settings;
  std::vector<BenchmarkRun> runs;
  std::vector<Lengths> lengths;  // in order, each once
};

File read_file(const BenchmarkFile& source) {
  constexpr std::string_view kind = "benchmark";
  const MeasuredFile read(source.name, source.text, {&kind, 1}, "a file of 'tqkv benchmark'");
  File file;
  file.name = source.name;
  file.measured = read.measured();
  const JsonObject settings = read.settings();
  file.precision = settings.text("precision");
  file.measured.device.precision = file.precision == name(Precision::f32) ? Precision::f32 : Precision::fast;
  file.state = settings.text("state");
  file.prefill_chunk = static_cast<int>(settings.count("prefill_chunk", 1 << 30));
  file.ids = settings.text("ids");
  file.settings = {{"model fingerprint", file.measured.fingerprint},
                   {"processor", file.measured.processor()},
                   {"device", file.measured.device.device.canonical()},
                   {"precision", file.precision},
                   {"state type", file.state},
                   {"prefill chunk", std::to_string(file.prefill_chunk)}};
  BenchmarkFigures figures;
  take(read.top(), figures);
  file.runs = std::move(figures.runs);
  for (const BenchmarkRun& run : file.runs) {
    if (std::find(file.lengths.begin(), file.lengths.end(), run.lengths) == file.lengths.end())
      file.lengths.push_back(run.lengths);
  }
  return file;
}

void require_comparable(const File& first, const File& other) {
  for (std::size_t i = 0; i < first.settings.size(); ++i) {
    if (first.settings[i].value == other.settings[i].value) continue;
    refuse_file(other.name,
                fmt::format("the {} is {}, but {} in {}: only runs of one model on one machine with one setting "
                            "can be compared",
                            first.settings[i].what, other.settings[i].value, first.settings[i].value, first.name));
  }
  const auto missing = [](const File& from, const File& in) -> const Lengths* {
    for (const Lengths& lengths : from.lengths) {
      if (std::find(in.lengths.begin(), in.lengths.end(), lengths) == in.lengths.end()) return &lengths;
    }
    return nullptr;
  };
  if (const Lengths* lengths = missing(first, other)) {
    refuse_file(other.name, fmt::format("has no run of {}, as {} has: only equal lengths can be compared",
                                        text_of(*lengths), first.name));
  }
  if (const Lengths* lengths = missing(other, first)) {
    refuse_file(other.name, fmt::format("has a run of {}, but {} does not: only equal lengths can be compared",
                                        text_of(*lengths), first.name));
  }
}

struct Member {
  const File* file;
  const BenchmarkRun* run;
};

// The runs of one length.
struct Group {
  Lengths lengths;
  std::vector<Member> members;
};

std::vector<Group> grouped_runs(const std::vector<File>& files) {
  std::vector<Group> groups;
  for (const Lengths& lengths : files.front().lengths) {
    Group group{lengths, {}};
    for (const File& file : files) {
      for (const BenchmarkRun& run : file.runs) {
        if (run.lengths == lengths) group.members.push_back({&file, &run});
      }
    }
    for (const Member& member : group.members) {
      if (member.run->ids_digest == group.members.front().run->ids_digest) continue;
      refuse_file(member.file->name,
                  fmt::format("fed other ids than {} in the run of {}: give both the same --seed or --text",
                              group.members.front().file->name, text_of(lengths)));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

// The baseline of the same file, else the last of another.
const Member* baseline_of(const Member& member, const Group& group) {
  const Member* baseline = nullptr;
  for (const Member& other : group.members) {
    if (!other.run->baseline()) continue;
    if (baseline == nullptr || (other.file == member.file && baseline->file != member.file)) baseline = &other;
  }
  return baseline;
}

// One length: two tables, and the rows of the file.
std::string table_of(const Group& group, std::vector<ComparedRun>& rows, bool& unpaired) {
  TextTable speed(speed_header()), cost(cost_header());
  std::vector<std::string> formats;
  for (const Member& member : group.members) formats.push_back(member.run->format);
  const auto names = cache::short_names(formats);
  const auto reference =
      std::find_if(group.members.begin(), group.members.end(), [](const Member& one) { return one.run->baseline(); });
  for (const Member& member : group.members) {
    const BenchmarkRun& run = *member.run;
    ReportRow row{names.at(run.format), run, {}, {}};
    if (std::count(formats.begin(), formats.end(), run.format) > 1)
      row.label += fmt::format(" ({})", member.file->name);
    if (const Member* baseline = baseline_of(member, group)) {
      row.ratios = ratios_of(run, *baseline->run, baseline->file == member.file);
      const bool itself = member.run == reference->run;
      unpaired = unpaired || (!itself && !row.ratios->paired);
      row.baseline_cache_bytes = reference->run->trials.back().cache.allocated();
    }
    speed.add(speed_row(row));
    cost.add(cost_row(row));

    const CacheBytes& cache = run.trials.back().cache;
    const std::vector<double> decode = run.generation_tps();
    ComparedRun compared;
    compared.format = run.format;
    compared.file = member.file->name;
    compared.trials = static_cast<int>(run.trials.size());
    compared.prompt_tps = spread_of(run.prompt_tps());
    if (!decode.empty()) compared.generation_tps = spread_of(decode);
    compared.cache_bytes = cache.allocated();
    compared.cache_bytes_used = cache.used();
    compared.peak_memory_gb = static_cast<double>(run.trials.back().weights + run.peak_anonymous()) / 1e9;
    if (run.quality) {
      compared.mean_kl = run.quality->mean_kl;
      compared.same_top = run.quality->same_top;
    }
    compared.ratios = row.ratios;
    rows.push_back(std::move(compared));
  }
  std::string out = text_of(group.lengths) + ": median (min - max)\n" + speed.text("  ") + "\n" + cost.text("  ");
  if (!group.lengths.decode_figure()) out += short_decode_note;
  return out;
}

}  // namespace

Comparison compare(std::span<const BenchmarkFile> sources) {
  if (sources.empty()) throw Error(ErrorKind::usage, "compare: no files were given");
  std::vector<File> files;
  for (const BenchmarkFile& source : sources) files.push_back(read_file(source));
  for (const File& file : files) require_comparable(files.front(), file);
  const File& first = files.front();

  const StateType state = first.state == name(StateType::bf16) ? StateType::bf16 : StateType::f32;
  Comparison comparison;
  comparison.table = heading(first.measured, state, first.prefill_chunk, first.ids);

  bool baseline = true;
  ComparisonFigures figures;
  for (const File& file : files) figures.files.push_back(file.name);
  for (const Group& group : grouped_runs(files)) {
    ComparedLengths& lengths = figures.lengths.emplace_back();
    lengths.lengths = group.lengths;
    comparison.table += "\n" + table_of(group, lengths.runs, figures.unpaired);
    baseline = baseline && std::any_of(group.members.begin(), group.members.end(),
                                       [](const Member& member) { return member.run->baseline(); });
  }
  if (figures.unpaired) {
    comparison.table +=
        "\nunpaired: the ratios come from separate runs, so a drift of the machine between them counts as "
        "a difference\n";
  }
  if (!baseline) comparison.table += "\nno ratios: none of the files contains a run of the baseline backend\n";

  Measured measured = first.measured;
  measured.command.clear();
  Json json = header_json("comparison", measured,
                          {{"precision", first.precision},
                           {"state", first.state},
                           {"prefill_chunk", first.prefill_chunk},
                           {"ids", first.ids}});
  json.update(JsonWriter::json_of(figures));
  comparison.json = file_text(json, 2);
  return comparison;
}

}  // namespace tqkv::measure
