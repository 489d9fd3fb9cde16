// The files of benchmarks, of sessions and of comparisons, schema 1, behind their header (files/measured.h).
#pragma once
#include "measure/files/cache_fields.h"
#include "measure/files/speed.h"

namespace tqkv::measure {

inline constexpr Limits a_speed{1e-9, 1e9}, of_seconds_timed{0, 1e9};  // tokens per second; seconds

template <class Fields>
void describe(Fields& fields, Described<Fields, Spread>& spread) {
  fields.field("median", spread.median, Limits{0, 1e9});
  fields.field("min", spread.min, Limits{0, 1e9});
  fields.field("max", spread.max, Limits{0, 1e9});
  fields.require(spread.min <= spread.median && spread.median <= spread.max && spread.max > 0,
                 "has min, median and max in no order");
}

template <class Fields>
void describe(Fields& fields, Described<Fields, Lengths>& lengths) {
  fields.field("prompt_tokens", lengths.prompt_tokens);
  fields.field("generation_tokens", lengths.generation_tokens);
  fields.field("depth", lengths.depth);
  fields.derived("decode_figure", lengths.decode_figure());
}

template <class Fields>
void describe(Fields& fields, Described<Fields, Trial>& trial) {
  fields.field("order", trial.order);
  fields.field("prompt_tps", trial.prompt_tps, a_speed);
  fields.field("generation_tps", trial.generation_tps, a_speed);
  fields.field("generation_tps_mlx", trial.generation_tps_mlx, a_speed);
  fields.field("prompt_s", trial.prompt_s, of_seconds_timed);
  fields.field("encode_s", trial.encode_s, of_seconds_timed);
  fields.field("decode_s", trial.decode_s, of_seconds_timed);
  fields.derived("gen_wall_s", trial.gen_wall_s());
  fields.derived("peak_memory_gb", static_cast<double>(trial.peak_memory()) / 1e9);
  fields.gigabytes("weights_gb", trial.weights);
  fields.gigabytes("peak_anonymous_gb", trial.peak_anonymous);
  fields.derived("cache_bytes", trial.cache.allocated());
  fields.derived("cache_bytes_used", trial.cache.used());
  fields.field("cache", trial.cache);
  fields.field("digest", trial.digest);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, SpeedRatios>& ratios) {
  fields.field("paired", ratios.paired);
  fields.field("prompt_tps", ratios.prompt_tps);
  fields.field("generation_tps", ratios.generation_tps);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, Quality>& quality) {
  fields.field("mean_kl", quality.mean_kl, Limits{0, 1e6});
  fields.field("same_top", quality.same_top, a_share);
  fields.field("quality_rows", quality.rows);
}

/// For readers of other programs: each figure over the trials.
struct TrialSummary {
  const BenchmarkRun& run;
};
template <class Fields>
void describe(Fields& fields, const TrialSummary& summary) {
  const auto spread = [&](const auto& get) {
    std::vector<double> values;
    for (const Trial& trial : summary.run.trials) values.push_back(static_cast<double>(get(trial)));
    return spread_of(std::move(values));
  };
  const auto decode = [&](const auto& get) {
    return summary.run.lengths.generation_tokens > 1 ? std::optional(spread(get)) : std::nullopt;
  };
  const auto gb = [](std::uint64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  fields.derived("prompt_tps", spread([](const Trial& trial) { return trial.prompt_tps; }));
  fields.derived("generation_tps", decode([](const Trial& trial) { return trial.generation_tps.value_or(0); }));
  fields.derived("generation_tps_mlx", decode([](const Trial& trial) { return trial.generation_tps_mlx.value_or(0); }));
  fields.derived("gen_wall_s", spread([](const Trial& trial) { return trial.gen_wall_s(); }));
  fields.derived("peak_memory_gb", spread([&](const Trial& trial) { return gb(trial.peak_memory()); }));
  fields.derived("peak_anonymous_gb", spread([&](const Trial& trial) { return gb(trial.peak_anonymous); }));
  fields.derived("cache_bytes", spread([](const Trial& trial) { return trial.cache.allocated(); }));
  fields.derived("cache_bytes_used", spread([](const Trial& trial) { return trial.cache.used(); }));
}

template <class Fields>
void describe(Fields& fields, Described<Fields, BenchmarkRun>& run) {
  fields.derived("backend", run.format.substr(0, run.format.find(':')));
  fields.field("format", run.format);
  fields.field("layers", run.layers);
  fields.field("activation_bits", run.activation_bits);
  describe(fields, run.lengths);
  fields.field("open_sessions", run.open_sessions);
  fields.field("ids_digest", run.ids_digest);
  fields.field("predicted", run.predicted);
  fields.derived("as_predicted", run.as_predicted());
  fields.inlined("mean_kl", run.quality);
  fields.field("warmup", run.warmup);
  fields.field("trials", run.trials);
  fields.require(!run.trials.empty(), "has no trials");
  if constexpr (Fields::reading) {
    for (const Trial& trial : run.trials)
      fields.require(trial.generation_tps.has_value() == (run.lengths.generation_tokens > 1),
                     "has a speed of decode and no decode, or none");
  } else {
    fields.derived("summary", TrialSummary{run});
  }
  fields.field("ratio_to_baseline", run.ratios);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, BenchmarkFigures>& figures) {
  fields.field("runs", figures.runs);
  fields.require(!figures.runs.empty(), "contains no runs");
}

template <class Fields>
void describe(Fields& fields, Described<Fields, ComparedRun>& run) {
  fields.derived("backend", run.format.substr(0, run.format.find(':')));
  fields.field("format", run.format);
  fields.field("file", run.file);
  fields.field("trials", run.trials);
  fields.field("prompt_tps", run.prompt_tps);
  fields.field("generation_tps", run.generation_tps);
  fields.field("cache_bytes", run.cache_bytes);
  fields.field("cache_bytes_used", run.cache_bytes_used);
  fields.field("peak_memory_gb", run.peak_memory_gb, Limits{0, 1e9});
  fields.field("mean_kl", run.mean_kl, Limits{0, 1e6});
  fields.field("same_top", run.same_top, a_share);
  fields.field("ratio_to_baseline", run.ratios);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, ComparedLengths>& lengths) {
  describe(fields, lengths.lengths);
  fields.field("rows", lengths.runs);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, ComparisonFigures>& comparison) {
  fields.field("files", comparison.files);
  fields.field("unpaired", comparison.unpaired);
  fields.field("lengths", comparison.lengths);
  fields.require(!comparison.lengths.empty(), "contains no runs");
}

template <class Fields>
void describe(Fields& fields, Described<Fields, SessionsRun>& run) {
  fields.field("format", run.format);
  fields.field("sessions", run.sessions);
  fields.field("tps", run.tps, a_speed);
  if constexpr (!Fields::reading) fields.derived("summary", spread_of(run.tps));
  fields.field("bytes_per_step", run.bytes);
  fields.field("bound", run.bound, not_negative);
  fields.field("ratio_to_one", run.ratio_to_one);
  fields.field("share_of_gain", run.share_of_gain, any_number);
}

}  // namespace tqkv::measure
