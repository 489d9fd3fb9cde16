// What the figures of a report have in common: names, colours, orders and the way numbers are written.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/names.h"
#include "tqkv/benchmark.h"

namespace tqkv::measure {

using cache::backend_of;
using cache::short_names;

/// Which colour and shape a format has, the same in every figure.
class Styles {
 public:
  /// Formats in the order in which they shall be shown. With more than there are styles, those of one backend share
  /// theirs.
  explicit Styles(const std::vector<std::string>& formats);
  int of(const std::string& format) const;
  bool by_format() const { return by_format_; }

 private:
  std::map<std::string, int> index_;
  bool by_format_ = true;
};

/// A point of the plane "bits against error".
struct RatePoint {
  double bits = 0;   // stored bits a value
  double error = 0;  // mean KL or distortion
};
/// Indices of the points that no other point beats in one of the two and matches in the other, by bits upwards.
std::vector<std::size_t> pareto_front(const std::vector<RatePoint>& points);

/// Stored bits within which two formats count as equal in size.
inline constexpr double equal_bits = 0.1;

/// "4.06"
std::string bits_text(double bits);
/// With as many digits as the standard error leaves: "0.00463 ± 0.00021", "(4.6 ± 0.2)e-6"; without one as rounded().
std::string with_error(double value, std::optional<double> error);
/// "93.8 %"; with two decimals near both ends.
std::string percent(double share);
/// "93.8 ± 0.4 %"
std::string percent_with_error(double share, std::optional<double> error);
/// "+1.2" or "-0.4": points of a hundred.
std::string points_text(double points);
/// Tokens: "512", "2K", "32K" where the number is full, else with commas.
std::string tokens_text(std::uint64_t tokens);
/// "4,322 (4,031 – 4,418)"
std::string spread_text(const Spread& spread);
/// "1.42 (1.29 – 1.49)"
std::string ratio_text(const Spread& ratio);
/// "1.32", or "2.1e+05" far from 1; "–" for what is no number.
std::string times_text(double ratio);
/// "a", "a and b", "a, b and c"
std::string listed(const std::vector<std::string>& names);

}  // namespace tqkv::measure
