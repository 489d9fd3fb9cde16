#include "base/descriptor.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>

using namespace tqkv;

TEST_CASE("a pipe in non-blocking mode loses nothing and fails nothing, on either end") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  for (const int end : ends) REQUIRE(::fcntl(end, F_SETFL, O_NONBLOCK) == 0);
  const std::string sent(1 << 20, 'x');  // more than a pipe takes at once
  int failure = -1;
  std::thread writer([&] {
    failure = write_all(ends[1], sent);
    ::close(ends[1]);
  });
  std::string received;
  std::array<char, 1000> block{};
  ssize_t count = 0;
  while ((count = read_some(ends[0], block.data(), block.size())) > 0)
    received.append(block.data(), static_cast<std::size_t>(count));
  writer.join();
  CHECK(count == 0);
  CHECK(failure == 0);
  CHECK(received == sent);
  CHECK((::fcntl(ends[0], F_GETFL) & O_NONBLOCK) != 0);  // the mode is left to those who share it
  ::close(ends[0]);
}

TEST_CASE("waiting for input ends at the given time, and at once where there is some or the end") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  CHECK_FALSE(wait_readable(ends[0], 0));
  CHECK(write_all(ends[1], "a") == 0);
  CHECK(wait_readable(ends[0], -1));
  char byte = 0;
  CHECK(read_some(ends[0], &byte, 1) == 1);
  ::close(ends[1]);
  CHECK(wait_readable(ends[0], -1));
  ::close(ends[0]);
}
