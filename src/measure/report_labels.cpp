#include "measure/report_labels.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/numbers.h"
#include "measure/svg.h"
#include "measure/text_table.h"

namespace tqkv::measure {
namespace {

// Decimals that show `error` with two digits.
int decimals_of(double error) {
  return static_cast<int>(std::clamp(1 - std::floor(std::log10(error)), 0.0, 12.0));
}

}  // namespace

Styles::Styles(const std::vector<std::string>& formats) {
  // Baseline always has the dark cross.
  constexpr int baseline_style = 6;
  constexpr int order[] = {0, 1, 2, 3, 4, 5, 7, 8, 9};
  std::vector<std::string> others, backends;
  const auto add = [](std::vector<std::string>& list, const std::string& entry) {
    if (std::find(list.begin(), list.end(), entry) == list.end()) list.push_back(entry);
  };
  for (const std::string& format : formats) {
    if (backend_of(format) == "baseline") {
      index_[format] = baseline_style;
      continue;
    }
    add(others, format);
    add(backends, backend_of(format));
  }
  by_format_ = others.size() <= std::size(order);
  const std::vector<std::string>& named = by_format_ ? others : backends;
  for (const std::string& format : others) {
    const auto place = std::find(named.begin(), named.end(), by_format_ ? format : backend_of(format)) - named.begin();
    index_[format] = order[static_cast<std::size_t>(place) % std::size(order)];
  }
}

int Styles::of(const std::string& format) const {
  const auto found = index_.find(format);
  return found == index_.end() ? series_count - 1 : found->second;
}

std::vector<std::size_t> pareto_front(const std::vector<RatePoint>& points) {
  std::vector<std::size_t> front;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const bool beaten = std::any_of(points.begin(), points.end(), [&](const RatePoint& other) {
      return other.bits <= points[i].bits && other.error <= points[i].error &&
             (other.bits < points[i].bits || other.error < points[i].error);
    });
    if (!beaten) front.push_back(i);
  }
  std::stable_sort(front.begin(), front.end(),
                   [&](std::size_t a, std::size_t b) { return points[a].bits < points[b].bits; });
  return front;
}

std::string bits_text(double bits) {
  return fmt::format("{:.2f}", bits);
}

std::string with_error(double value, std::optional<double> error) {
  if (!error || !(*error > 0)) return rounded(value);
  const double size = std::max(std::abs(value), *error);
  if (size >= 1e-4 && size < 1e6) {
    const int decimals = decimals_of(*error);
    return fmt::format("{:.{}f} ± {:.{}f}", value, decimals, *error, decimals);
  }
  const int exponent = static_cast<int>(std::floor(std::log10(size)));
  const double unit = std::pow(10, exponent);
  const int decimals = decimals_of(*error / unit);
  return fmt::format("({:.{}f} ± {:.{}f})e{}", value / unit, decimals, *error / unit, decimals, exponent);
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
