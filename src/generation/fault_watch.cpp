#include "generation/fault_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/memory_info.h"
#include "base/numbers.h"

namespace tqkv {
namespace {

constexpr int window = 16;                // steps over which it is averaged
constexpr std::uint64_t worth_it = 1000;  // a token that reads a thousandth of the weights from the disk is slow

}  // namespace

MemoryReadings MemoryReadings::of_this_process() {
  return {[] { return tqkv::major_faults(); }, [] { return tqkv::disk_reads(); }, [] { return available_memory(); }};
}

FaultWatch::FaultWatch(std::uint64_t weights, MemoryReadings readings)
    : weights_(weights),
      readings_(std::move(readings)),
      faults_at_start_(readings_.major_faults()),
      reads_at_start_(readings_.disk_reads()) {
  begin_window();
}

void FaultWatch::begin_window() {
  window_faults_ = readings_.major_faults();
  window_reads_ = readings_.disk_reads();
  window_seconds_ = 0;
  window_steps_ = 0;
}

std::uint64_t FaultWatch::faults() const {
  return readings_.major_faults() - faults_at_start_;
}

std::optional<std::string> FaultWatch::step(double seconds) {
  if (told_ || weights_ == 0) return std::nullopt;
  window_seconds_ += seconds;
  if (++window_steps_ < window) return std::nullopt;
  const std::uint64_t faults = readings_.major_faults() - window_faults_;
  // The disk gives more than the page that was missed; what it gave is known on some systems only.
  const std::uint64_t bytes = std::max(readings_.disk_reads() - window_reads_,
                                       faults * static_cast<std::uint64_t>(std::max(::sysconf(_SC_PAGESIZE), 1L)));
  const double a_token = window_seconds_ / window;
  const bool again = readings_.disk_reads() - reads_at_start_ > weights_ + weights_ / 8;
  const std::uint64_t available = readings_.available();
  const bool short_of_memory = available > 0 && available < weights_;
  begin_window();
  if (faults == 0 || bytes / window < weights_ / worth_it || !(again || short_of_memory)) return std::nullopt;
  told_ = true;
  return fmt::format(
      "weights do not stay in memory: for each of the last {} tokens {} were read from the disk again, in {} "
      "page "
      "faults, at {:.2f} s per token; {} of weights have {} of memory: close other programs or take a "
      "smaller cache",
      window, short_bytes(static_cast<double>(bytes) / window), grouped(faults / window), a_token,
      short_bytes(static_cast<double>(weights_)), short_bytes(static_cast<double>(available)));
}

}  // namespace tqkv
