// Numbers as people read them.
#pragma once
#include <concepts>
#include <cstdint>
#include <string>

namespace tqkv {

/// "1,234,567"
std::string grouped(std::uint64_t number);
template <std::integral T>
std::string grouped(T number) {
  return grouped(static_cast<std::uint64_t>(number));
}

/// "20.4 GB", "3.8 kB", "244 bytes"
std::string short_bytes(double bytes);

}  // namespace tqkv
