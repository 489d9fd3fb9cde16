// How a download stands, in words.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "tqkv/pull.h"

namespace tqkv::hub {

/// Bytes a second over the last seconds, so that a change of the network shows and a hiccup does not.
class Rate {
 public:
  using Time = std::chrono::duration<double>;  ///< seconds since any moment, growing
  void add(Time now, std::uint64_t received);
  /// Nothing before there is anything to compare.
  std::optional<double> bytes_per_second() const;

 private:
  std::deque<std::pair<Time, std::uint64_t>> samples_;
};

/// "12 s", "3 min 20 s", "2 h 05 min"
std::string short_time(double seconds);
/// "37%  7.6 GB of 20.4 GB  92.1 MB/s  2 min 19 s left"
std::string progress_text(const PullProgress& progress, std::optional<double> bytes_per_second);
/// "[#######-------------]" with `cells` cells.
std::string progress_bar(const PullProgress& progress, int cells);

}  // namespace tqkv::hub
