#include "codec/packing.h"

#include <algorithm>
#include <cassert>

namespace tqkv::codec {
namespace {

// One plane: bits `shift`.. of every index, `width` of them (1, 2, 4 or 8), the first channel lowest in its byte.
std::byte* pack_plane(int width, int shift, std::span<const std::uint8_t> index, std::byte* codes) {
  const unsigned per_byte = 8u / static_cast<unsigned>(width);
  const unsigned mask = (1u << width) - 1u;
  for (std::size_t i = 0; i < index.size(); i += per_byte) {
    unsigned packed = 0;
    for (unsigned j = 0; j < per_byte; ++j)
      packed |= ((static_cast<unsigned>(index[i + j]) >> shift) & mask) << (j * static_cast<unsigned>(width));
    *codes++ = static_cast<std::byte>(packed);
  }
  return codes;
}

const std::byte* unpack_plane(int width, int shift, const std::byte* codes, std::span<std::uint8_t> index) {
  const unsigned per_byte = 8u / static_cast<unsigned>(width);
  const unsigned mask = (1u << width) - 1u;
  for (std::size_t i = 0; i < index.size(); i += per_byte) {
    const auto packed = std::to_integer<unsigned>(*codes++);
    for (unsigned j = 0; j < per_byte; ++j) {
      const unsigned part = (packed >> (j * static_cast<unsigned>(width))) & mask;
      index[i + j] = static_cast<std::uint8_t>(index[i + j] | (part << shift));
    }
  }
  return codes;
}

[[maybe_unused]] bool packable(int bits) {
  return (bits >= 1 && bits <= 5) || bits == 8;
}
// 3 and 5 bits are a plane of 2 and 4 bits with a plane of the topmost bit behind it.
int lower(int bits) {
  return bits == 3 || bits == 5 ? bits - 1 : bits;
}

}  // namespace

std::size_t packed_bytes(int bits, int dim) {
  assert(bits >= 1 && bits <= 8 && dim > 0 && dim * bits % 8 == 0);
  return static_cast<std::size_t>(dim) * static_cast<std::size_t>(bits) / 8;
}

void pack(int bits, std::span<const std::uint8_t> index, std::byte* codes) {
  assert(packable(bits));
  codes = pack_plane(lower(bits), 0, index, codes);
  if (lower(bits) != bits) pack_plane(1, lower(bits), index, codes);
}

void unpack(int bits, const std::byte* codes, std::span<std::uint8_t> index) {
  assert(packable(bits));
  std::fill(index.begin(), index.end(), std::uint8_t{0});
  codes = unpack_plane(lower(bits), 0, codes, index);
  if (lower(bits) != bits) unpack_plane(1, lower(bits), codes, index);
}

void pack_stream(int bits, std::span<const std::uint8_t> index, std::byte* codes) {
  unsigned waiting = 0, count = 0;  // bits that do not fill a byte yet
  for (const std::uint8_t value : index) {
    waiting |= static_cast<unsigned>(value) << count;
    for (count += static_cast<unsigned>(bits); count >= 8; count -= 8, waiting >>= 8)
      *codes++ = static_cast<std::byte>(waiting);
  }
  assert(count == 0);
}

void unpack_stream(int bits, const std::byte* codes, std::span<std::uint8_t> index) {
  const unsigned mask = (1u << bits) - 1u;
  unsigned waiting = 0, count = 0;
  for (std::uint8_t& value : index) {
    if (count < static_cast<unsigned>(bits)) {
      waiting |= std::to_integer<unsigned>(*codes++) << count;
      count += 8;
    }
    value = static_cast<std::uint8_t>(waiting & mask);
    waiting >>= bits;
    count -= static_cast<unsigned>(bits);
  }
}

}  // namespace tqkv::codec
