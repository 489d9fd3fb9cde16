#include "base/numbers.h"

#include <doctest/doctest.h>

using namespace tqkv;

TEST_CASE("numbers are grouped by thousands, bytes shortened to a unit of thousands") {
  CHECK(grouped(999) == "999");
  CHECK(grouped(1234567) == "1,234,567");
  CHECK(short_bytes(999) == "999 bytes");
  CHECK(short_bytes(1000) == "1.0 kB");
  CHECK(short_bytes(999960) == "1.0 MB");
  CHECK(short_bytes(20411897485.0) == "20.4 GB");
  CHECK(short_bytes(4e18) == "4000000.0 TB");
}
