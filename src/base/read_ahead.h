// Brings parts of mapped files into memory before they are used.
#pragma once
#include <atomic>
#include <cstddef>
#include <span>
#include <thread>
#include <vector>

namespace tqkv {

/// Reads and maps `ranges` of mapped files in the given order, on a thread of its own. Only a help: what cannot be read
/// is left to whoever uses it. Does nothing where the ranges are larger than the memory that is available.
class ReadAhead {
 public:
  explicit ReadAhead(std::vector<std::span<const std::byte>> ranges);
  /// Stops after the piece at hand.
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  /// Waits until every range has been read or given up.
  void wait();

 private:
  void run() const;
  std::vector<std::span<const std::byte>> ranges_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace tqkv
