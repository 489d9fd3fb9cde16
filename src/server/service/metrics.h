// What the server has done so far, as Prometheus reads it.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "server/schedule/scheduler.h"
#include "server/service/answering.h"

namespace tqkv::server {

/// Counted by several threads.
struct Totals {
  std::atomic<std::uint64_t> answered{0}, left{0}, failed{0}, refused{0};
  std::atomic<std::uint64_t> first_token_us{0}, seconds_us{0}, queued_us{0};  ///< sums, microseconds

  void add(const Account& account);
};

std::string metrics_text(const Totals& totals, const SchedulerState& state, std::size_t connections);

}  // namespace tqkv::server
