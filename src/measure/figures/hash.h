// FNV-1a, 64 bits: a digest for telling things apart, not for security.
#pragma once
#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tqkv::measure {

class Digest {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) {
      state_ = (state_ ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3ull;
    }
  }
  /// With its length in front, so that neighbours cannot trade characters.
  void add(std::string_view text) {
    add(static_cast<std::uint64_t>(text.size()));
    add(std::as_bytes(std::span(text)));
  }
  void add(std::uint64_t value) {  // little-endian on every machine
    for (int shift = 0; shift < 64; shift += 8) {
      const auto byte = static_cast<std::byte>(value >> shift);
      add(std::span(&byte, 1));
    }
  }
  void add(int value) { add(static_cast<std::uint64_t>(static_cast<std::int64_t>(value))); }
  std::string hex() const { return fmt::format("{:016x}", state_); }

 private:
  std::uint64_t state_ = 0xcbf29ce484222325ull;
};

inline std::string digest_of(std::span<const int> ids) {
  Digest digest;
  for (const int id : ids) digest.add(id);
  return digest.hex();
}

}  // namespace tqkv::measure
