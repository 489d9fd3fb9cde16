// What the figures of a report have in common: names, colours and orders.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cache/names.h"

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

}  // namespace tqkv::measure
