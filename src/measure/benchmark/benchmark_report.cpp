#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "cache/layers_text.h"
#include "cache/names.h"
#include "measure/benchmark/benchmark.h"
#include "measure/benchmark/table_text.h"
#include "measure/figures/text_table.h"
#include "measure/files/measured.h"
#include "measure/files/speed_fields.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

const BenchmarkRun* baseline_of(const BenchmarkReport& report, const BenchmarkRun& run) {
  for (const BenchmarkRun& other : report.runs) {
    if (other.baseline() && other.lengths == run.lengths) return &other;
  }
  return nullptr;
}

std::map<std::string, std::string> labels_of(const BenchmarkReport& report) {
  std::vector<std::string> formats;
  for (const BenchmarkRun& run : report.runs) formats.push_back(run.format);
  return cache::short_names(formats);
}

// Runs [first, last) share their lengths.
std::string table_of(const BenchmarkReport& report, std::size_t first, std::size_t last) {
  const BenchmarkRun& head = report.runs[first];
  std::string out = text_of(head.lengths) + fmt::format(", {} trial{}: median (min - max)\n", head.trials.size(),
                                                        head.trials.size() == 1 ? "" : "s");
  TextTable speed(speed_header());
  TextTable cost(cost_header());
  std::vector<std::string> notes;
  const auto labels = labels_of(report);
  for (std::size_t i = first; i < last; ++i) {
    const BenchmarkRun& run = report.runs[i];
    ReportRow row{labels.at(run.format), run, run.ratios, {}};
    if (const BenchmarkRun* baseline = baseline_of(report, run))
      row.baseline_cache_bytes = baseline->trials.front().cache.allocated();
    speed.add(speed_row(row));
    cost.add(cost_row(row));
    if (!run.as_predicted()) {
      notes.push_back(fmt::format("  {}: {} B of cache were predicted, {} B were measured\n", row.label,
                                  run.predicted.allocated(), run.trials.back().cache.allocated()));
    }
    if (const std::string unused = cache::unused_mean(KvFormat::parse(run.format), run.lengths.fed()); !unused.empty())
      notes.push_back(fmt::format("  {}: {}\n", row.label, unused));
  }
  out += speed.text("  ") + "\n" + cost.text("  ");
  if (!head.lengths.decode_figure()) out += short_decode_note;
  if (head.open_sessions > 1) {
    out +=
        fmt::format("  note: {} sessions wait at this depth, each peak holds them all; one backend a run has its own\n",
                    head.open_sessions);
  }
  for (const std::string& line : notes) out += line;
  return out;
}

}  // namespace

std::string to_json(const BenchmarkReport& report) {
  Json json = header_json("benchmark", report,
                          {{"precision", name(report.device.precision)},
                           {"state", name(report.state)},
                           {"prefill_chunk", report.prefill_chunk},
                           {"ids", report.ids}});
  Json runs = JsonWriter::json_of(report.runs);
  if (runs.size() == 1) {
    for (const char* key : {"backend", "trials", "summary"}) json[key] = runs[0][key];
  }
  json["runs"] = std::move(runs);
  return file_text(json, 2);
}

std::string to_table(const BenchmarkReport& report) {
  std::string out = heading(report, report.state, report.prefill_chunk, report.ids);
  std::vector<std::string> formats;
  for (const BenchmarkRun& run : report.runs) {
    std::string line = run.format + ": " + cache::layers_text(run.layers);
    if (std::find(formats.begin(), formats.end(), line) == formats.end()) formats.push_back(std::move(line));
  }
  for (const std::string& line : formats) out += line + "\n";
  for (std::size_t first = 0, last = 0; first < report.runs.size(); first = last) {
    while (last < report.runs.size() && report.runs[first].lengths == report.runs[last].lengths) ++last;
    out += "\n" + table_of(report, first, last);
  }
  return out;
}

}  // namespace tqkv::measure
