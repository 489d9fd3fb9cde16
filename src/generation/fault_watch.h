// FaultWatch: notices that mapped weights do not stay in memory, and what it costs.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace tqkv {

/// What the system counts for this process.
struct MemoryReadings {
  std::function<std::uint64_t()> major_faults;  ///< pages that had to be read from a disk
  std::function<std::uint64_t()> disk_reads;    ///< bytes read from disks, 0: not known
  std::function<std::uint64_t()> available;     ///< bytes free for anonymous memory or for file pages
  static MemoryReadings of_this_process();
};

class FaultWatch {
 public:
  /// `weights`: mapped bytes; 0: nothing is watched.
  explicit FaultWatch(std::uint64_t weights, MemoryReadings readings = MemoryReadings::of_this_process());

  /// After each step of decode, which took `seconds`. One line, once: when steps had to wait for the disk although this
  /// cannot be the first reading alone, since the weights do not fit into what is free, or were read more than once.
  std::optional<std::string> step(double seconds);
  std::uint64_t faults() const;  ///< since the construction

 private:
  void begin_window();

  std::uint64_t weights_;
  MemoryReadings readings_;
  std::uint64_t faults_at_start_, reads_at_start_;
  std::uint64_t window_faults_ = 0, window_reads_ = 0;
  double window_seconds_ = 0;
  int window_steps_ = 0;
  bool told_ = false;
};

}  // namespace tqkv
