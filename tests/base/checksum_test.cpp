// XXH3 as its specification has it.
#include "base/checksum.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <vector>

using namespace tqkv;

TEST_CASE("nothing has the checksums that the specification's implementation gives it") {
  CHECK(checksum({}) == 0x2d06800538d394c2u);
  CHECK(checksum_128({}) == "99aa06d3014798d86001c324468d497f");
}

TEST_CASE("a checksum over pieces is that of the whole, and the next one starts anew") {
  std::vector<std::byte> bytes(3000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  RunningChecksum running;
  for (const std::size_t piece : {1u, 17u, 256u, 999u}) {
    CAPTURE(piece);
    for (std::size_t at = 0; at < bytes.size(); at += piece)
      running.add(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at)));
    CHECK(running.take() == checksum(bytes));
  }
  CHECK(running.take() == checksum({}));
  bytes[1500] ^= std::byte{1};
  running.add(bytes);
  CHECK(running.take() == checksum(bytes));
}
