#include "hub/progress.h"

#include <doctest/doctest.h>

using namespace tqkv::hub;

TEST_CASE("a rate is that of the last seconds") {
  Rate rate;
  CHECK(!rate.bytes_per_second());
  rate.add(Rate::Time(0), 0);
  CHECK(!rate.bytes_per_second());
  rate.add(Rate::Time(1), 1000);
  CHECK(rate.bytes_per_second().value() == doctest::Approx(1000));
  for (int second = 2; second <= 20; ++second)
    rate.add(Rate::Time(second), 1000 + 5000u * static_cast<unsigned>(second - 1));
  CHECK(rate.bytes_per_second().value() == doctest::Approx(5000));  // the slow beginning is forgotten
}

TEST_CASE("progress is share, bytes, rate and time left") {
  CHECK(progress_text({7600000000, 20400000000, 0}, 92100000.0) ==
        " 37%  7.6 GB of 20.4 GB  92.1 MB/s  2 min 19 s left");
  CHECK(progress_text({0, 0, 0}, {}) == "100%  0 bytes of 0 bytes");
  CHECK(progress_text({1, 2000, 0}, 0.0) == "  0%  1 byte of 2.0 kB  0 bytes/s");
  CHECK(progress_text({1999, 2000, 0}, {}).substr(0, 4) == " 99%");  // not all yet
  CHECK(progress_bar({50, 100, 0}, 4) == "[##--]");
  CHECK(progress_bar({100, 100, 0}, 4) == "[####]");
  CHECK(progress_bar({999, 1000, 0}, 4) == "[###-]");
}

TEST_CASE("times are short") {
  CHECK(short_time(0) == "0 s");
  CHECK(short_time(59.6) == "1 min 00 s");
  CHECK(short_time(7500) == "2 h 05 min");
}
