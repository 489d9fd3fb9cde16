#include "hub/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/numbers.h"

namespace tqkv::hub {
namespace {

constexpr Rate::Time window{8};

double share(const PullProgress& progress) {
  if (progress.bytes == 0) return 1;
  return std::min(1.0, static_cast<double>(progress.kept) / static_cast<double>(progress.bytes));
}

}  // namespace

void Rate::add(Time now, std::uint64_t received) {
  samples_.emplace_back(now, received);
  while (samples_.size() > 2 && now - samples_[1].first >= window) samples_.pop_front();
}

std::optional<double> Rate::bytes_per_second() const {
  if (samples_.size() < 2) return std::nullopt;
  const double seconds = (samples_.back().first - samples_.front().first).count();
  if (seconds <= 0) return std::nullopt;
  return static_cast<double>(samples_.back().second - samples_.front().second) / seconds;
}

std::string short_time(double seconds) {
  const auto whole = std::llround(std::clamp(seconds, 0.0, 1e9));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string progress_text(const PullProgress& progress, std::optional<double> bytes_per_second) {
  // Rounded down: 100% is said when all is there.
  std::string text =
      fmt::format("{:3}%  {} of {}", static_cast<int>(share(progress) * 100),
                  short_bytes(static_cast<double>(progress.kept)), short_bytes(static_cast<double>(progress.bytes)));
  if (!bytes_per_second) return text;
  text += fmt::format("  {}/s", short_bytes(*bytes_per_second));
  if (*bytes_per_second > 0 && progress.kept < progress.bytes)
    text +=
        fmt::format("  {} left", short_time(static_cast<double>(progress.bytes - progress.kept) / *bytes_per_second));
  return text;
}

std::string progress_bar(const PullProgress& progress, int cells) {
  const auto full = static_cast<std::size_t>(share(progress) * cells);
  return "[" + std::string(full, '#') + std::string(static_cast<std::size_t>(cells) - full, '-') + "]";
}

}  // namespace tqkv::hub
