#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/numbers.h"
#include "cache/names.h"
#include "measure/figures/number_text.h"
#include "measure/figures/text_table.h"
#include "measure/tune/tune.h"

namespace tqkv::measure {
namespace {

const TuneMeasurement& measured_kl(const Tuning& tuning, const std::string& format, bool held_out) {
  return *std::find_if(tuning.measurements.begin(), tuning.measurements.end(),
                       [&](const TuneMeasurement& one) { return one.held_out == held_out && one.format == format; });
}

/// Nothing where the goal is reached.
std::string missed_goal(const Tuning& tuning, double kl) {
  if (tuning.goal_reached) return "";
  return fmt::format(
      "\nNo format that was tried reaches a mean KL of {}. The best one has {}: ask for --kl {} or more.\n",
      rounded(tuning.goal.kl.value_or(0)), rounded(kl), rounded(kl * 1.01));
}

}  // namespace

std::string to_table(const Tuning& tuning) {
  if (!tuning.finished) return "not finished\n";
  std::string out = fmt::format("{} ({})\n{}, {} precision\n{}: {} tokens measured on, {} held out\n\n", tuning.model,
                                tuning.shape, tuning.device.text(), name(tuning.options.precision), tuning.text,
                                tuning.tokens, tuning.held_out_tokens);
  std::vector<int> bits;
  for (const TuneSide& side : tuning.sides)
    for (const TuneSide::Point& point : side.points)
      if (std::find(bits.begin(), bits.end(), point.bits) == bits.end()) bits.push_back(point.bits);
  std::sort(bits.begin(), bits.end());
  std::vector<std::string> header{"KL of one side alone"};
  for (const int one : bits) header.push_back(fmt::format("{} bits", one));
  TextTable alone(header);
  for (const TuneSide& side : tuning.sides) {
    std::vector<std::string> row{fmt::format("layer {}, {}", side.layer, side.keys ? "keys" : "values")};
    for (const int one : bits) {
      const auto found = std::find_if(side.points.begin(), side.points.end(),
                                      [&](const TuneSide::Point& point) { return point.bits == one; });
      row.push_back(found == side.points.end() ? "" : rounded(found->kl));
    }
    alone.add(std::move(row));
  }
  out += alone.text() + "\n";

  const auto names = cache::short_names(tuning.compared);
  TextTable table({"held-out text", "KL", "same top", "perplexity"});
  for (const std::string& format : tuning.compared) {
    const TuneMeasurement& one = measured_kl(tuning, format, true);
    table.add({names.at(format) + (format == tuning.chosen ? " (chosen)" : ""), with_error(one.kl, one.kl_se, " +- "),
               percent(one.same_top), fmt::format("{:.4f}", one.ratio)});
  }
  out += table.text();
  const std::string chosen = tuning.chosen;
  out += missed_goal(tuning, measured_kl(tuning, chosen, false).kl);
  const TuneMeasurement& usual = measured_kl(tuning, tuning.compared.back(), true);
  out += fmt::format(
      "\n{:.3f} of the default's KL. {} bytes per token (default: {}), and {} for plain tokens and means\nIts sides "
      "alone "
      "add up to a KL of {}, together they have {}.\n\n{}\n",
      measured_kl(tuning, chosen, true).kl / usual.kl, grouped(tuning.bytes_per_token),
      grouped(tuning.default_bytes_per_token), grouped(tuning.fixed_bytes), rounded(tuning.predicted_kl),
      rounded(measured_kl(tuning, chosen, false).kl), chosen);
  return out;
}

}  // namespace tqkv::measure
