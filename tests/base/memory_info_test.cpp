#include "base/memory_info.h"

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "support/checkpoint_writer.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;

TEST_CASE("this machine tells its memory, and new anonymous pages are counted") {
  CHECK(total_memory() > 0);
  CHECK(available_memory() > 0);
  CHECK(available_memory() <= total_memory());
  const std::uint64_t before = anonymous_memory();
  CHECK(before > 0);
  constexpr std::size_t size = std::size_t{64} << 20;
  std::vector<char> pages(size);
  std::memset(pages.data(), 1, size);
  CHECK(anonymous_memory() >= before + size * 9 / 10);
  CHECK(pages[size / 2] == 1);
}

#if defined(__linux__)

namespace {

constexpr std::uint64_t MiB = std::uint64_t{1} << 20;

/// A machine of 8,000 MiB with 6,000 MiB available.
SystemFiles machine(const TemporaryDirectory& directory, const std::string& groups) {
  fs::create_directories(directory / "proc/self");
  fs::create_directories(directory / "cgroup/box/inner");
  fs::create_directories(directory / "cgroup/memory/box");
  fs::create_directories(directory / "cgroup/cpu/box");
  write_file(directory / "proc/meminfo", "MemTotal:       8192000 kB\nMemFree: 1 kB\nMemAvailable:   6144000 kB\n");
  write_file(directory / "proc/self/status", "Name:\tx\nVmRSS:\t  900 kB\nRssAnon:\t     156 kB\n");
  write_file(directory / "proc/self/cgroup", groups);
  return {directory / "proc", directory / "cgroup"};
}

}  // namespace

TEST_CASE("without a limit the machine counts") {
  const TemporaryDirectory directory;
  const SystemFiles files = machine(directory, "0::/box/inner\n");
  write_file(directory / "cgroup/box/memory.max", "max\n");
  write_file(directory / "cgroup/box/cpu.max", "max 100000\n");
  CHECK(total_memory(files) == 8000 * MiB);
  CHECK(available_memory(files) == 6000 * MiB);
  CHECK(anonymous_memory(files) == 156 * 1024);
  CHECK(cgroup_cores(files) == 0);
}

TEST_CASE("a limit of the container counts, its file pages are free, and the tightest group decides") {
  const TemporaryDirectory directory;
  const SystemFiles files = machine(directory, "0::/box/inner\n");
  const auto group = [&](const char* name, std::uint64_t limit, std::uint64_t used, std::uint64_t cached) {
    const fs::path at = directory / "cgroup" / name;
    write_file(at / "memory.max", std::to_string(limit * MiB) + "\n");
    write_file(at / "memory.current", std::to_string(used * MiB) + "\n");
    write_file(at / "memory.stat", "anon 5\ninactive_file " + std::to_string(cached * MiB) + "\nactive_file 0\n");
  };
  group("box/inner", 4000, 3000, 2500);
  CHECK(total_memory(files) == 4000 * MiB);
  CHECK(available_memory(files) == 3500 * MiB);
  group("box", 5000, 4900, 100);
  CHECK(total_memory(files) == 4000 * MiB);
  CHECK(available_memory(files) == 200 * MiB);
  write_file(directory / "cgroup/box/cpu.max", "150000 100000\n");
  CHECK(cgroup_cores(files) == 2);
}

TEST_CASE("limits of version 1 count, also when the path is that of the host") {
  const TemporaryDirectory directory;
  const SystemFiles files = machine(directory, "4:memory:/host/docker/abc\n2:cpu,cpuacct:/box\n");
  const fs::path root = directory / "cgroup/memory";
  write_file(root / "memory.limit_in_bytes", std::to_string(1000 * MiB));
  write_file(root / "memory.usage_in_bytes", std::to_string(900 * MiB));
  write_file(root / "memory.stat", "total_inactive_file " + std::to_string(300 * MiB) + "\ntotal_active_file " +
                                       std::to_string(100 * MiB) + "\n");
  CHECK(total_memory(files) == 1000 * MiB);
  CHECK(available_memory(files) == 500 * MiB);
  write_file(root / "memory.limit_in_bytes", "9223372036854771712");  // version 1's way to say none
  CHECK(total_memory(files) == 8000 * MiB);
  write_file(directory / "cgroup/cpu/box/cpu.cfs_quota_us", "300000");
  write_file(directory / "cgroup/cpu/box/cpu.cfs_period_us", "100000");
  CHECK(cgroup_cores(files) == 3);
  write_file(directory / "cgroup/cpu/box/cpu.cfs_quota_us", "-1");
  CHECK(cgroup_cores(files) == 0);
}

TEST_CASE("files that are missing or broken mean that nothing is known") {
  const TemporaryDirectory directory;
  const SystemFiles nowhere{directory / "no-proc", directory / "no-cgroup"};
  CHECK(total_memory(nowhere) == 0);
  CHECK(available_memory(nowhere) == 0);
  CHECK(anonymous_memory(nowhere) == 0);
  CHECK(cgroup_cores(nowhere) == 0);
  const SystemFiles files = machine(directory, "nonsense\n0::/../../box\n");
  write_file(directory / "cgroup/memory.max", "lots\n");
  write_file(directory / "proc/meminfo", "MemTotal:\nMemAvailable: 99999999999999999999999 kB\n");
  CHECK(total_memory(files) == 0);
  CHECK(available_memory(files) == 0);
}

#endif
