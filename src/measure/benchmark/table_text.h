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
  Spread prompt_tps;  // tokens/s
  std::optional<Spread> generation_tps;
  std::optional<Spread> prompt_ratio, generation_ratio;  // to baseline
  std::uint64_t cache_bytes = 0, cache_bytes_used = 0;
  std::optional<std::uint64_t> baseline_cache_bytes;
  double weights_gb = 0, peak_anonymous_gb = 0;
  std::optional<Quality> quality;
};

inline constexpr std::string_view short_decode_note =
    "  note: fewer than 128 generated tokens are not a decode figure\n";

/// Two lines about model and machine.
std::string heading(std::string_view model, std::string_view shape, const DeviceReport& device, StateType state,
                    int prefill_chunk, std::string_view ids);
std::string lengths_text(int prompt_tokens, int generation_tokens, int depth);
std::vector<std::string> speed_header();
std::vector<std::string> speed_row(const ReportRow& row);
std::vector<std::string> cost_header();
std::vector<std::string> cost_row(const ReportRow& row);

}  // namespace tqkv::measure
