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

std::vector<int> streamed(int bits, const std::vector<std::uint8_t>& index) {
  std::vector<std::byte> codes(packed_bytes(bits, static_cast<int>(index.size())));
  pack_stream(bits, index, codes.data());
  std::vector<int> bytes;
  for (const std::byte b : codes) bytes.push_back(std::to_integer<int>(b));
  return bytes;
}

}  // namespace

TEST_CASE("indices lie in the planes and bits that docs/formats.md gives") {
  CHECK(packed(1, {1, 0, 1, 1, 0, 0, 0, 1}) == std::vector<int>{0x8d});
  CHECK(packed(2, ascending(2, 8)) == std::vector<int>{0xe4, 0xe4});
  CHECK(packed(3, ascending(3, 8)) == std::vector<int>{0xe4, 0xe4, 0xf0});
  CHECK(packed(4, ascending(4, 8)) == std::vector<int>{0x10, 0x32, 0x54, 0x76});
  CHECK(packed(5, {16, 1, 18, 3, 4, 21, 6, 31}) == std::vector<int>{0x10, 0x32, 0x54, 0xf6, 0xa5});
  CHECK(packed(8, {0, 255, 7, 1, 2, 3, 4, 5}) == std::vector<int>{0, 255, 7, 1, 2, 3, 4, 5});
  // Two planes: all low parts stand before all top bits.
  CHECK(packed(3, {0, 0, 0, 0, 0, 0, 0, 0, 7, 4, 0, 0, 0, 0, 0, 3}) == std::vector<int>{0, 0, 0x03, 0xc0, 0x00, 0x03});
}

TEST_CASE("a stream holds index i from bit i * bits on, and is a plane where bits divide 8") {
  CHECK(streamed(3, ascending(3, 8)) == std::vector<int>{0x88, 0xc6, 0xfa});
  CHECK(streamed(5, ascending(5, 8)) == std::vector<int>{0x20, 0x88, 0x41, 0x8a, 0x39});
  CHECK(streamed(6, ascending(6, 8)) == std::vector<int>{0x40, 0x20, 0x0c, 0x44, 0x61, 0x1c});
  CHECK(streamed(6, {63, 0, 0, 0, 1, 2, 32, 63}) == std::vector<int>{0x3f, 0, 0, 0x81, 0x00, 0xfe});
  for (const int bits : {1, 2, 4, 8}) CHECK(streamed(bits, ascending(bits, 64)) == packed(bits, ascending(bits, 64)));
  for (const int bits : {3, 5}) CHECK(streamed(bits, ascending(bits, 64)) != packed(bits, ascending(bits, 64)));
}

TEST_CASE("any indices of any width come back from their packed bytes, planes and streams") {
  const bool holds = rc::check([] {
    const bool stream = *rc::gen::arbitrary<bool>();
    const int bits = stream ? *rc::gen::element(2, 3, 4, 5, 6, 8) : *rc::gen::element(1, 2, 3, 4, 5, 8);
    const int dim = 64 * *rc::gen::inRange(1, 9);
    const int bound = 1 << bits;
    const auto index = *rc::gen::container<std::vector<std::uint8_t>>(
        static_cast<std::size_t>(dim),
        rc::gen::map(rc::gen::inRange(0, bound), [](int i) { return static_cast<std::uint8_t>(i); }));
    RC_ASSERT(packed_bytes(bits, dim) == static_cast<std::size_t>(dim * bits / 8));
    std::vector<std::byte> codes(packed_bytes(bits, dim) + 1, std::byte{0xa5});
    (stream ? pack_stream : pack)(bits, index, codes.data());
    RC_ASSERT(codes.back() == std::byte{0xa5});
    std::vector<std::uint8_t> back(index.size(), 0xff);
    (stream ? unpack_stream : unpack)(bits, codes.data(), back);
    RC_ASSERT(back == index);
  });
  CHECK(holds);
}
