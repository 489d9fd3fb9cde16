#include "codec/packing.h"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <vector>

using namespace tqkv::codec;

namespace {

std::vector<std::uint8_t> ascending(int bits, std::size_t n) {
  std::vector<std::uint8_t> index(n);
  for (std::size_t i = 0; i < n; ++i) index[i] = static_cast<std::uint8_t>(i % (std::size_t{1} << bits));
  return index;
}

std::vector<int> packed(int bits, const std::vector<std::uint8_t>& index) {
  std::vector<std::byte> codes(packed_bytes(bits, static_cast<int>(index.size())));
  pack(bits, index, codes.data());
  std::vector<int> bytes;
  for (const std::byte b : codes) bytes.push_back(std::to_integer<int>(b));
  return bytes;
}

}  // namespace

TEST_CASE("indices lie in the planes and bits that docs/formats.md gives") {
  CHECK(packed(2, ascending(2, 8)) == std::vector<int>{0xe4, 0xe4});
  CHECK(packed(3, ascending(3, 8)) == std::vector<int>{0xe4, 0xe4, 0xf0});
  CHECK(packed(4, ascending(4, 8)) == std::vector<int>{0x10, 0x32, 0x54, 0x76});
  CHECK(packed(5, {16, 1, 18, 3, 4, 21, 6, 31}) == std::vector<int>{0x10, 0x32, 0x54, 0xf6, 0xa5});
  CHECK(packed(8, {0, 255, 7, 1, 2, 3, 4, 5}) == std::vector<int>{0, 255, 7, 1, 2, 3, 4, 5});
  // Two planes: all low parts stand before all top bits.
  CHECK(packed(3, {0, 0, 0, 0, 0, 0, 0, 0, 7, 4, 0, 0, 0, 0, 0, 3}) == std::vector<int>{0, 0, 0x03, 0xc0, 0x00, 0x03});
}

TEST_CASE("any indices of any width come back from their packed bytes") {
  const bool holds = rc::check([] {
    const int bits = *rc::gen::element(2, 3, 4, 5, 8);
    const int dim = 64 * *rc::gen::inRange(1, 9);
    const int bound = 1 << bits;
    const auto index = *rc::gen::container<std::vector<std::uint8_t>>(
        static_cast<std::size_t>(dim),
        rc::gen::map(rc::gen::inRange(0, bound), [](int i) { return static_cast<std::uint8_t>(i); }));
    RC_ASSERT(packed_bytes(bits, dim) == static_cast<std::size_t>(dim * bits / 8));
    std::vector<std::byte> codes(packed_bytes(bits, dim) + 1, std::byte{0xa5});
    pack(bits, index, codes.data());
    RC_ASSERT(codes.back() == std::byte{0xa5});
    std::vector<std::uint8_t> back(index.size(), 0xff);
    unpack(bits, codes.data(), back);
    RC_ASSERT(back == index);
  });
  CHECK(holds);
}
