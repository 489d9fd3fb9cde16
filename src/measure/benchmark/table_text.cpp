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

std::string heading(const Measured& measured, StateType state, int prefill_chunk, std::string_view ids) {
  const DeviceReport& device = measured.device;
  return fmt::format("{} ({})\n{}, {} precision, {} state, chunks of {}, {}\n", measured.model, measured.shape,
                     device.text(), name(device.precision), name(state), prefill_chunk, ids);
}

std::string text_of(const Lengths& lengths) {
  return fmt::format("{} prompt + {} generated tokens at depth {}", lengths.prompt_tokens, lengths.generation_tokens,
                     lengths.depth);
}

std::vector<std::string> speed_header() {
  return {"backend", "prompt tok/s", "x baseline", "decode tok/s", "x baseline"};
}

std::vector<std::string> speed_row(const ReportRow& row) {
  const std::vector<double> decode = row.run.generation_tps();
  return {row.label, spread_text(spread_of(row.run.prompt_tps())),
          ratio_text(row.ratios ? std::optional(row.ratios->prompt_tps) : std::nullopt),
          spread_text(decode.empty() ? std::nullopt : std::optional(spread_of(decode))),
          ratio_text(row.ratios ? row.ratios->generation_tps : std::nullopt)};
}

std::vector<std::string> cost_header() {
  return {"backend", "cache MB", "used MB", "x smaller", "peak GB", "= weights", "+ anonymous", "mean KL", "same top"};
}

std::vector<std::string> cost_row(const ReportRow& row) {
  const BenchmarkRun& run = row.run;
  const CacheBytes& cache = run.trials.back().cache;
  std::string smaller = "-";
  if (row.baseline_cache_bytes && cache.allocated() > 0)
    smaller =
        fmt::format("{:.2f}", static_cast<double>(*row.baseline_cache_bytes) / static_cast<double>(cache.allocated()));
  const auto gb = [](std::uint64_t bytes) { return fmt::format("{:.3f}", static_cast<double>(bytes) / 1e9); };
  const std::uint64_t weights = run.trials.back().weights, anonymous = run.peak_anonymous();
  return {row.label,
          megabytes(cache.allocated()),
          megabytes(cache.used()),
          smaller,
          gb(weights + anonymous),
          gb(weights),
          gb(anonymous),
          run.quality ? rounded(run.quality->mean_kl) : "-",
          run.quality ? fmt::format("{:.1f} %", 100 * run.quality->same_top) : "-"};
}

}  // namespace tqkv::measure
