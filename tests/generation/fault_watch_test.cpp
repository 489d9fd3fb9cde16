#include "generation/fault_watch.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "base/memory_info.h"
#include "support/temporary_directory.h"

using namespace tqkv;

namespace {

constexpr std::uint64_t GB = 1'000'000'000;

/// A process with 20 GB of weights, whose counters the test moves.
struct Process {
  std::uint64_t faults = 0, reads = 0, available = 30 * GB;
  FaultWatch watch{20 * GB, {[this] { return faults; }, [this] { return reads; }, [this] { return available; }}};

  /// Twenty steps, each with so many faults and bytes; what was said on the way.
  std::string steps(std::uint64_t faults_each, std::uint64_t bytes_each) {
    std::string said;
    for (int i = 0; i < 20; ++i) {
      faults += faults_each;
      reads += bytes_each;
      if (const auto line = watch.step(1.5)) said += *line;
    }
    return said;
  }
};

long faults_of_the_system() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_majflt;
}

/// What Linux says that this process read from disks; 0 where it does not say so, or not of this file system.
std::uint64_t reads_of_the_system() {
  std::ifstream counters("/proc/self/io");
  std::string name;
  for (std::uint64_t value = 0; counters >> name >> value;)
    if (name == "read_bytes:") return value;
  return 0;
}

/// Touches the pages of a file that the system was asked to forget; whether that took a major fault.
bool read_from_the_disk(const std::string& file, std::size_t size) {
#if defined(__linux__)
  const long before = faults_of_the_system();
  const int descriptor = ::open(file.c_str(), O_RDONLY);
  REQUIRE(descriptor >= 0);
  ::fsync(descriptor);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  void* const pages = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  REQUIRE(pages != MAP_FAILED);
  unsigned sum = 0;
  for (std::size_t at = 0; at < size; at += 4096) sum += static_cast<const volatile unsigned char*>(pages)[at];
  CHECK(sum == size / 4096 * 'w');
  ::munmap(pages, size);
  ::close(descriptor);
  return faults_of_the_system() > before;
#else
  static_cast<void>(file), static_cast<void>(size);
  return false;
#endif
}

}  // namespace

TEST_CASE("weights that are read for the first time are no reason to complain") {
  Process process;
  CHECK(process.steps(1000, GB / 2).empty());
  CHECK(process.watch.faults() == 20'000);
}

TEST_CASE("weights for which there is no room are told once, with bytes, faults and seconds per token") {
  Process process;
  process.available = 12 * GB;
  const std::string said = process.steps(1000, GB / 2);
  CHECK(said.find("weights do not stay in memory") == 0);
  for (const char* part :
       {"last 16 tokens", "500.0 MB", "1,000 page faults", "1.50 s per token", "20.0 GB", "12.0 GB"}) {
    CAPTURE(part);
    CHECK(said.find(part) != std::string::npos);
  }
  CHECK(process.steps(1000, GB / 2).empty());
}

TEST_CASE("weights that were read more than once do not stay, whatever the system says is free") {
  Process process;
  CHECK(process.steps(1000, GB).empty());  // 20 GB: all of it, once
  CHECK(process.steps(1000, GB).find("weights do not stay") == 0);
}

TEST_CASE("where the disk's bytes are not known, the pages of the faults count") {
  Process process;
  process.available = 12 * GB;
  const std::string said = process.steps(10'000, 0);
  CHECK(said.find("10,000 page faults") != std::string::npos);
}

TEST_CASE("little memory without faults, and a few faults, are no reason to complain") {
  Process process;
  process.available = 12 * GB;
  CHECK(process.steps(0, 0).empty());
  CHECK(process.steps(1, 4096).empty());
}

TEST_CASE("without weights to watch nothing is said") {
  FaultWatch watch(
      0, {[] { return std::uint64_t{1000}; }, [] { return std::uint64_t{1000}; }, [] { return std::uint64_t{1}; }});
  for (int i = 0; i < 40; ++i) CHECK(!watch.step(1));
}

TEST_CASE("this process counts its own faults") {
  const MemoryReadings readings = MemoryReadings::of_this_process();
  CHECK(readings.available() > 0);
  CHECK(readings.available() <= total_memory());
  const std::uint64_t faults = readings.major_faults(), reads = readings.disk_reads();
  const test::TemporaryDirectory folder;
  constexpr std::size_t size = 1 << 20;
  if (!read_from_the_disk(folder.write("weights", std::string(size, 'w')), size)) {
    MESSAGE("here no page can be made to leave the memory: skipped");
    return;
  }
  CHECK(readings.major_faults() > faults);
  const std::uint64_t told = reads_of_the_system();
  CHECK(readings.disk_reads() >= told);
  if (told > 0) CHECK(readings.disk_reads() >= reads + size);
}
