#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "cache/layers_text.h"
#include "cache/names.h"
#include "measure/benchmark/benchmark.h"
#include "measure/benchmark/table_text.h"
#include "measure/figures/statistics.h"
#include "measure/figures/text_table.h"
#include "measure/files/machine.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

double gb(std::uint64_t bytes) {
  return static_cast<double>(bytes) / 1e9;
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

template <class Get>
std::vector<double> samples(const BenchmarkRun& run, const Get& get) {
  std::vector<double> values;
  for (const Trial& trial : run.trials) values.push_back(static_cast<double>(get(trial)));
  return values;
}

std::vector<double> prompt_samples(const BenchmarkRun& run) {
  return samples(run, [](const Trial& trial) { return trial.prompt_tps; });
}

// Empty for a run without decode steps.
std::vector<double> decode_samples(const BenchmarkRun& run) {
  if (run.generation_tokens == 1) return {};
  return samples(run, [](const Trial& trial) { return trial.generation_tps.value_or(0); });
}

Json json_of(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

Json json_of(const CacheBytes& bytes) {
  return {{"kv_used", bytes.kv_used},
          {"kv_allocated", bytes.kv_allocated},
          {"state", bytes.state()},
          {"recurrent", bytes.recurrent},
          {"convolution", bytes.convolution}};
}

Json json_of(const Trial& trial, std::uint64_t weights) {
  return {{"order", trial.order},
          {"prompt_tps", trial.prompt_tps},
          {"generation_tps", or_null(trial.generation_tps)},
          {"generation_tps_mlx", or_null(trial.generation_tps_mlx)},
          {"prompt_s", trial.prompt_s},
          {"encode_s", trial.encode_s},
          {"decode_s", trial.decode_s},
          {"gen_wall_s", trial.gen_wall_s()},
          {"peak_memory_gb", gb(weights + trial.peak_anonymous)},
          {"weights_gb", gb(weights)},
          {"peak_anonymous_gb", gb(trial.peak_anonymous)},
          {"cache_bytes", trial.cache.allocated()},
          {"cache_bytes_used", trial.cache.used()},
          {"cache", json_of(trial.cache)},
          {"digest", trial.digest}};
}

Json summary_of(const BenchmarkRun& run, std::uint64_t weights) {
  const auto spread = [&](auto get) { return json_of(spread_of(samples(run, get))); };
  Json summary = {{"prompt_tps", json_of(spread_of(prompt_samples(run)))}};
  if (run.generation_tokens > 1) {
    summary["generation_tps"] = json_of(spread_of(decode_samples(run)));
    summary["generation_tps_mlx"] = spread([](const Trial& trial) { return trial.generation_tps_mlx.value_or(0); });
  } else {
    summary["generation_tps"] = nullptr;
    summary["generation_tps_mlx"] = nullptr;
  }
  summary["gen_wall_s"] = spread([](const Trial& trial) { return trial.gen_wall_s(); });
  summary["peak_memory_gb"] = spread([&](const Trial& trial) { return gb(weights + trial.peak_anonymous); });
  summary["peak_anonymous_gb"] = spread([](const Trial& trial) { return gb(trial.peak_anonymous); });
  summary["cache_bytes"] = spread([](const Trial& trial) { return trial.cache.allocated(); });
  summary["cache_bytes_used"] = spread([](const Trial& trial) { return trial.cache.used(); });
  return summary;
}

bool same_lengths(const BenchmarkRun& a, const BenchmarkRun& b) {
  return a.prompt_tokens == b.prompt_tokens && a.generation_tokens == b.generation_tokens && a.depth == b.depth;
}

const BenchmarkRun* baseline_of(const BenchmarkReport& report, const BenchmarkRun& run) {
  for (const BenchmarkRun& other : report.runs) {
    if (other.format.backend == Backend::baseline && same_lengths(other, run)) return &other;
  }
  return nullptr;
}

bool as_predicted(const BenchmarkRun& run) {
  return std::all_of(run.trials.begin(), run.trials.end(), [&](const Trial& trial) {
    return trial.cache.kv_used == run.predicted.kv_used && trial.cache.kv_allocated == run.predicted.kv_allocated &&
           trial.cache.state() == run.predicted.state();
  });
}

Json ratios_of(const BenchmarkRun& run, const BenchmarkRun& baseline) {
  Json ratios = {{"paired", true},
                 {"prompt_tps", json_of(paired_ratio(prompt_samples(run), prompt_samples(baseline)))},
                 {"generation_tps", nullptr}};
  if (run.generation_tokens > 1) {
    ratios["generation_tps"] = json_of(paired_ratio(decode_samples(run), decode_samples(baseline)));
  }
  return ratios;
}

Json json_of(const BenchmarkRun& run, const BenchmarkReport& report) {
  Json layers = Json::array();
  for (const LayerCache& layer : run.layers) {
    layers.push_back({{"layer", layer.layer}, {"k", layer.k.describe()}, {"v", layer.v.describe()}});
  }
  Json trials = Json::array();
  for (const Trial& trial : run.trials) trials.push_back(json_of(trial, report.weights));
  const BenchmarkRun* baseline = baseline_of(report, run);
  return {{"backend", name(run.format.backend)},
          {"format", run.format.canonical()},
          {"layers", std::move(layers)},
          {"activation_bits", {{"expert_input", run.activations.expert_input}, {"tolerant", run.activations.tolerant}}},
          {"prompt_tokens", run.prompt_tokens},
          {"generation_tokens", run.generation_tokens},
          {"depth", run.depth},
          {"decode_figure", run.decode_figure()},
          {"open_sessions", run.open_sessions},
          {"ids_digest", run.ids_digest},
          {"predicted", json_of(run.predicted)},
          {"as_predicted", as_predicted(run)},
          {"mean_kl", run.quality ? Json(run.quality->mean_kl) : Json(nullptr)},
          {"same_top", run.quality ? Json(run.quality->same_top) : Json(nullptr)},
          {"quality_rows", run.quality ? Json(run.quality->rows) : Json(nullptr)},
          {"warmup", json_of(run.warmup, report.weights)},
          {"trials", std::move(trials)},
          {"summary", summary_of(run, report.weights)},
          {"ratio_to_baseline", baseline != nullptr ? ratios_of(run, *baseline) : Json(nullptr)}};
}

std::map<std::string, std::string> labels_of(const BenchmarkReport& report) {
  std::vector<std::string> formats;
  for (const BenchmarkRun& run : report.runs) formats.push_back(run.format.canonical());
  return cache::short_names(formats);
}

int tokens_at_end(const BenchmarkRun& run) {
  return run.depth + run.prompt_tokens + run.generation_tokens - 1;
}

// Runs [first, last) share their lengths.
std::string table_of(const BenchmarkReport& report, std::size_t first, std::size_t last) {
  const BenchmarkRun& head = report.runs[first];
  const bool decodes = head.generation_tokens > 1;
  std::string out =
      lengths_text(head.prompt_tokens, head.generation_tokens, head.depth) +
      fmt::format(", {} trial{}: median (min - max)\n", head.trials.size(), head.trials.size() == 1 ? "" : "s");
  TextTable speed(speed_header());
  TextTable cost(cost_header());
  std::vector<std::string> notes;
  const auto labels = labels_of(report);
  for (std::size_t i = first; i < last; ++i) {
    const BenchmarkRun& run = report.runs[i];
    const BenchmarkRun* baseline = baseline_of(report, run);
    ReportRow row;
    row.label = labels.at(run.format.canonical());
    row.prompt_tps = spread_of(prompt_samples(run));
    if (decodes) row.generation_tps = spread_of(decode_samples(run));
    if (baseline != nullptr) {
      row.prompt_ratio = paired_ratio(prompt_samples(run), prompt_samples(*baseline));
      if (decodes) row.generation_ratio = paired_ratio(decode_samples(run), decode_samples(*baseline));
      row.baseline_cache_bytes = baseline->trials.front().cache.allocated();
    }
    row.cache_bytes = run.trials.front().cache.allocated();
    row.cache_bytes_used = run.trials.front().cache.used();
    const Spread peak = spread_of(samples(run, [](const Trial& trial) { return trial.peak_anonymous; }));
    row.weights_gb = gb(report.weights);
    row.peak_anonymous_gb = peak.max / 1e9;
    row.quality = run.quality;
    speed.add(speed_row(row));
    cost.add(cost_row(row));
    if (!as_predicted(run)) {
      notes.push_back(fmt::format("  {}: {} B of cache were predicted, {} B were measured\n", row.label,
                                  run.predicted.allocated(), row.cache_bytes));
    }
    if (const std::string unused = cache::unused_mean(run.format, tokens_at_end(run)); !unused.empty())
      notes.push_back(fmt::format("  {}: {}\n", row.label, unused));
  }
  out += speed.text("  ") + "\n" + cost.text("  ");
  if (!head.decode_figure()) out += short_decode_note;
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
  Json json = {{"schema", 1},
               {"kind", "benchmark"},
               {"tool", {{"name", "tqkv"}, {"version", version}}},
               {"model", {{"name", report.model}, {"shape", report.shape}, {"fingerprint", report.fingerprint}}},
               {"machine", machine_json(report.device, report.memory)},
               {"settings",
                {{"precision", name(report.device.precision)},
                 {"state", name(report.state)},
                 {"prefill_chunk", report.prefill_chunk},
                 {"ids", report.ids}}}};
  Json runs = Json::array();
  for (const BenchmarkRun& run : report.runs) runs.push_back(json_of(run, report));
  if (runs.size() == 1) {
    for (const char* key : {"backend", "trials", "summary"}) json[key] = runs[0][key];
  }
  json["runs"] = std::move(runs);
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string to_table(const BenchmarkReport& report) {
  std::string out = heading(report.model, report.shape, report.device, report.state, report.prefill_chunk, report.ids);
  std::vector<std::string> formats;
  for (const BenchmarkRun& run : report.runs) {
    std::string line = run.format.canonical() + ": " + cache::layers_text(run.layers);
    if (std::find(formats.begin(), formats.end(), line) == formats.end()) formats.push_back(std::move(line));
  }
  for (const std::string& line : formats) out += line + "\n";
  for (std::size_t first = 0, last = 0; first < report.runs.size(); first = last) {
    while (last < report.runs.size() && same_lengths(report.runs[first], report.runs[last])) ++last;
    out += "\n" + table_of(report, first, last);
  }
  return out;
}

}  // namespace tqkv::measure
