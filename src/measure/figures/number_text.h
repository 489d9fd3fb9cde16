// How tables and pages write numbers.
#pragma once
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "measure/figures/statistics.h"

namespace tqkv::measure {

/// "4.06"
std::string bits_text(double bits);
/// With as many digits as the standard error leaves: "0.00463 ± 0.00021", "(4.6 ± 0.2)e-6"; without one as rounded().
std::string with_error(double value, std::optional<double> error, std::string_view between = " ± ");
/// "93.8 %"; with two decimals near both ends.
std::string percent(double share);
/// "93.8 ± 0.4 %"
std::string percent_with_error(double share, std::optional<double> error);
/// "+1.2" or "-0.4": points of a hundred.
std::string points_text(double points);
/// Tokens: "512", "2K", "32K" where the number is full, else with commas.
std::string tokens_text(std::uint64_t tokens);
template <std::integral T>
std::string tokens_text(T tokens) {
  return tokens_text(static_cast<std::uint64_t>(tokens));
}
/// "4,322 (4,031 – 4,418)"
std::string spread_text(const Spread& spread);
/// "1.42 (1.29 – 1.49)"
std::string ratio_text(const Spread& ratio);
/// "1.32", or "2.1e+05" far from 1; "–" for what is no number.
std::string times_text(double ratio);
/// "a", "a and b", "a, b and c"
std::string listed(const std::vector<std::string>& names);

}  // namespace tqkv::measure
