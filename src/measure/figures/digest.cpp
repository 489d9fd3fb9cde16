#include "measure/figures/digest.h"

#include <fmt/format.h>

#include <cstdint>

#include "base/checksum.h"

namespace tqkv::measure {

void Digest::add(int id) {
  const auto value = static_cast<std::uint64_t>(std::int64_t{id});
  for (int shift = 0; shift < 64; shift += 8) bytes_ += static_cast<char>(value >> shift);  // on every machine alike
}

void Digest::add_list(std::span<const int> ids) {
  add(static_cast<int>(ids.size()));
  for (const int id : ids) add(id);
}

void Digest::add_text(std::string_view text) {
  add(static_cast<int>(text.size()));
  bytes_ += text;
}

std::string Digest::hex() const {
  return fmt::format("{:016x}", checksum(std::as_bytes(std::span(bytes_))));
}

std::string digest_of(std::span<const int> ids) {
  Digest digest;
  for (const int id : ids) digest.add(id);
  return digest.hex();
}

}  // namespace tqkv::measure
