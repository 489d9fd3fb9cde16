// The parts that the tables of `benchmark` and `compare` share.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "measure/benchmark/benchmark.h"
#include "measure/figures/statistics.h"

namespace tqkv::measure {

struct ReportRow {
  std::string label;
  const BenchmarkRun& run;
  std::optional<SpeedRatios> ratios;  // to baseline
  std::optional<std::uint64_t> baseline_cache_bytes;
};

inline constexpr std::string_view short_decode_note =
    "  note: fewer than 128 generated tokens are not a decode figure\n";

/// Two lines about model and machine.
std::string heading(const Measured& measured, StateType state, int prefill_chunk, std::string_view ids);
/// "2048 prompt + 128 generated tokens at depth 0".
std::string text_of(const Lengths& lengths);
std::vector<std::string> speed_header();
std::vector<std::string> speed_row(const ReportRow& row);
std::vector<std::string> cost_header();
std::vector<std::string> cost_row(const ReportRow& row);

}  // namespace tqkv::measure
