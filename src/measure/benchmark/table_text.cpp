#include "measure/benchmark/table_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "measure/figures/text_table.h"

namespace tqkv::measure {
namespace {

std::string spread_text(const std::optional<Spread>& spread) {
  if (!spread) return "-";
  if (spread->min == spread->max) return rounded(spread->median);
  return fmt::format("{} ({} - {})", rounded(spread->median), rounded(spread->min), rounded(spread->max));
}

std::string ratio_text(const std::optional<Spread>& ratio) {
  if (!ratio) return "-";
  if (ratio->min == ratio->max) return fmt::format("{:.2f}", ratio->median);
  return fmt::format("{:.2f} ({:.2f} - {:.2f})", ratio->median, ratio->min, ratio->max);
}

}  // namespace

std::string heading(std::string_view model, std::string_view shape, const DeviceReport& device, StateType state,
                    int prefill_chunk, std::string_view ids) {
  return fmt::format("{} ({})\n{}, {} precision, {} state, chunks of {}, {}\n", model, shape, device.text(),
                     name(device.precision), name(state), prefill_chunk, ids);
}

std::string lengths_text(int prompt_tokens, int generation_tokens, int depth) {
  return fmt::format("{} prompt + {} generated tokens at depth {}", prompt_tokens, generation_tokens, depth);
}

std::vector<std::string> speed_header() {
  return {"backend", "prompt tok/s", "x baseline", "decode tok/s", "x baseline"};
}

std::vector<std::string> speed_row(const ReportRow& row) {
  return {row.label, spread_text(row.prompt_tps), ratio_text(row.prompt_ratio), spread_text(row.generation_tps),
          ratio_text(row.generation_ratio)};
}

std::vector<std::string> cost_header() {
  return {"backend", "cache MB", "used MB", "x smaller", "peak GB", "= weights", "+ anonymous", "mean KL", "same top"};
}

std::vector<std::string> cost_row(const ReportRow& row) {
  std::string smaller = "-";
  if (row.baseline_cache_bytes && row.cache_bytes > 0) {
    smaller =
        fmt::format("{:.2f}", static_cast<double>(*row.baseline_cache_bytes) / static_cast<double>(row.cache_bytes));
  }
  return {row.label,
          megabytes(row.cache_bytes),
          megabytes(row.cache_bytes_used),
          smaller,
          fmt::format("{:.3f}", row.weights_gb + row.peak_anonymous_gb),
          fmt::format("{:.3f}", row.weights_gb),
          fmt::format("{:.3f}", row.peak_anonymous_gb),
          row.quality ? rounded(row.quality->mean_kl) : "-",
          row.quality ? fmt::format("{:.1f} %", 100 * row.quality->same_top) : "-"};
}

}  // namespace tqkv::measure
