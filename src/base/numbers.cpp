#include "base/numbers.h"

#include <fmt/format.h>

#include <cstddef>
#include <iterator>

namespace tqkv {

std::string grouped(std::uint64_t number) {
  std::string digits = std::to_string(number);
  for (std::ptrdiff_t at = std::ssize(digits) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

std::string short_bytes(double bytes) {
  if (bytes < 1000) return fmt::format("{:.0f} byte{}", bytes, bytes == 1 ? "" : "s");
  for (const char* unit : {"kB", "MB", "GB"}) {
    bytes /= 1000;
    if (bytes < 999.95) return fmt::format("{:.1f} {}", bytes, unit);
  }
  return fmt::format("{:.1f} TB", bytes / 1000);
}

}  // namespace tqkv
