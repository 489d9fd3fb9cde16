// XXH3 (xxHash 0.8): tells bytes apart that were altered by accident. It is no signature: whoever writes a file can
// give it any checksum.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace tqkv {

/// XXH3 of 64 bits, seed 0.
std::uint64_t checksum(std::span<const std::byte> bytes);
/// XXH3 of 128 bits, seed 0, as 32 hexadecimal digits, the high half first.
std::string checksum_128(std::span<const std::byte> bytes);

/// The same checksum of 64 bits over pieces.
class RunningChecksum {
 public:
  RunningChecksum();
  ~RunningChecksum();
  RunningChecksum(const RunningChecksum&) = delete;
  RunningChecksum& operator=(const RunningChecksum&) = delete;
  void add(std::span<const std::byte> bytes);
  /// Of everything since the last call; the next piece starts again.
  std::uint64_t take();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tqkv
