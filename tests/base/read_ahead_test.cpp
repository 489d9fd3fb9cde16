#include "base/read_ahead.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "base/file.h"
#include "support/temporary_directory.h"

using namespace tqkv;
using tqkv::test::TemporaryDirectory;

namespace {

/// Pages of `bytes` that are in memory.
int resident(std::span<const std::byte> bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((bytes.size() + page - 1) / page);
#if defined(__APPLE__)
  ::mincore(const_cast<std::byte*>(bytes.data()), bytes.size(), reinterpret_cast<char*>(pages.data()));
#else
  ::mincore(const_cast<std::byte*>(bytes.data()), bytes.size(), pages.data());
#endif
  int count = 0;
  for (const auto value : pages) count += value & 1;
  return count;
}

void forget(const std::filesystem::path& path) {
#if defined(POSIX_FADV_DONTNEED)
  const int file = ::open(path.c_str(), O_RDONLY);
  ::fsync(file);
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  ::close(file);
#else
  (void)path;
#endif
}

}  // namespace

TEST_CASE("ranges of a mapped file are in memory once they have been read ahead, whatever their alignment") {
  const TemporaryDirectory folder;
  const auto path = folder / "weights";
  const std::size_t size = (std::size_t{20} << 20) + 12345;
  std::ofstream(path, std::ios::binary) << std::string(size, 'w');
  forget(path);
  const MappedFile file(path);
  const auto bytes = file.bytes();
  ReadAhead ahead({bytes.subspan(1, size - 7000000), bytes.subspan(size - 7000000 + 1)});
  ahead.wait();
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  CHECK(resident(bytes) == static_cast<int>((size + page - 1) / page));
}

TEST_CASE("nothing to read ahead, and more than the memory holds, are fine") {
  ReadAhead none({});
  none.wait();
  const std::byte one{};
  // Never touched: it is larger than any memory.
  ReadAhead vast({std::span(&one, std::size_t{1} << 50)});
  vast.wait();
}

TEST_CASE("a file that is cut short while it is read ahead is left to its reader") {
  const TemporaryDirectory folder;
  const auto path = folder / "weights";
  std::ofstream(path, std::ios::binary) << std::string(std::size_t{4} << 20, 'w');
  const MappedFile file(path);
  std::filesystem::resize_file(path, 100);
  ReadAhead ahead({file.bytes()});
  ahead.wait();
}
