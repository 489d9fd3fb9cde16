// Peak of the anonymous memory of this process over samples.
#pragma once
#include <cstdint>

namespace tqkv::measure {

class MemoryPeak {
 public:
  /// Takes the first sample.
  MemoryPeak() { sample(); }
  void sample();
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::uint64_t bytes_ = 0;
};

/// Hands memory that was freed back to the system, so that a run is not charged for the one before.
void release_freed_memory();

}  // namespace tqkv::measure
