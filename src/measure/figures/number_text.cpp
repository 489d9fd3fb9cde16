#include "measure/figures/number_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/numbers.h"
#include "measure/figures/text_table.h"

namespace tqkv::measure {
namespace {

// Decimals that show `error` with two digits.
int decimals_of(double error) {
  return static_cast<int>(std::clamp(1 - std::floor(std::log10(error)), 0.0, 12.0));
}

}  // namespace

std::string bits_text(double bits) {
  return fmt::format("{:.2f}", bits);
}

std::string with_error(double value, std::optional<double> error, std::string_view between) {
  if (!error || !(*error > 0)) return rounded(value);
  const double size = std::max(std::abs(value), *error);
  if (size >= 1e-4 && size < 1e6) {
    const int decimals = decimals_of(*error);
    return fmt::format("{:.{}f}{}{:.{}f}", value, decimals, between, *error, decimals);
  }
  const int exponent = static_cast<int>(std::floor(std::log10(size)));
  const double unit = std::pow(10, exponent);
  const int decimals = decimals_of(*error / unit);
  return fmt::format("({:.{}f}{}{:.{}f})e{}", value / unit, decimals, between, *error / unit, decimals, exponent);
}

std::string percent(double share) {
  const double part = 100 * share;
  const bool near_an_end = (part > 0 && part < 1) || (part > 99 && part < 100);
  return fmt::format("{:.{}f} %", part, near_an_end ? 2 : 1);
}

std::string percent_with_error(double share, std::optional<double> error) {
  if (!error || !(*error > 0)) return percent(share);
  const int decimals = std::clamp(decimals_of(100 * *error), 1, 6);
  return fmt::format("{:.{}f} ± {:.{}f} %", 100 * share, decimals, 100 * *error, decimals);
}

std::string points_text(double points) {
  return std::abs(points) < 0.05 ? "0.0" : fmt::format("{:+.1f}", points);
}

std::string tokens_text(std::uint64_t tokens) {
  if (tokens >= 1024 && tokens % 1024 == 0) return fmt::format("{}K", tokens / 1024);
  return grouped(tokens);
}

namespace {

std::string speed_text(double value) {
  return value >= 1000 ? grouped(static_cast<std::uint64_t>(std::llround(value))) : rounded(value);
}

}  // namespace

std::string spread_text(const Spread& spread) {
  if (spread.min == spread.max) return speed_text(spread.median);
  return fmt::format("{} ({} – {})", speed_text(spread.median), speed_text(spread.min), speed_text(spread.max));
}

std::string ratio_text(const Spread& ratio) {
  if (ratio.min == ratio.max) return fmt::format("{:.2f}", ratio.median);
  return fmt::format("{:.2f} ({:.2f} – {:.2f})", ratio.median, ratio.min, ratio.max);
}

std::string times_text(double ratio) {
  if (!std::isfinite(ratio)) return "–";
  return ratio >= 1000 || (ratio > 0 && ratio < 0.01) ? fmt::format("{:.1e}", ratio) : fmt::format("{:.2f}", ratio);
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 == names.size() ? " and " : ", ";
    text += names[i];
  }
  return text;
}

}  // namespace tqkv::measure
