#include "base/memory_info.h"

#include "base/thread_pool.h"

#include <sys/resource.h>

namespace tqkv {

std::uint64_t major_faults() {
  struct rusage usage {};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<std::uint64_t>(usage.ru_majflt) : 0;
}

}  // namespace tqkv

#if defined(__linux__)

#include <sched.h>

#include <algorithm>
#include <thread>

namespace tqkv {

std::uint64_t available_memory(const SystemFiles& files) {
  const std::uint64_t machine = proc_kilobytes(files, "meminfo", "MemAvailable");
  const std::uint64_t container = cgroup_memory_left(files);
  if (machine == 0) return container == unlimited ? 0 : container;
  return std::min(machine, container);
}

std::uint64_t total_memory(const SystemFiles& files) {
  const std::uint64_t machine = proc_kilobytes(files, "meminfo", "MemTotal");
  const std::uint64_t container = cgroup_memory_limit(files);
  if (machine == 0) return container == unlimited ? 0 : container;
  return std::min(machine, container);
}

std::uint64_t anonymous_memory(const SystemFiles& files) {
  return proc_kilobytes(files, "self/status", "RssAnon");
}

std::uint64_t disk_reads(const SystemFiles& files) {
  return proc_number(files, "self/io", "read_bytes");
}

std::uint64_t available_memory() {
  return available_memory(SystemFiles{});
}
std::uint64_t total_memory() {
  return total_memory(SystemFiles{});
}
std::uint64_t anonymous_memory() {
  return anonymous_memory(SystemFiles{});
}
std::uint64_t disk_reads() {
  return disk_reads(SystemFiles{});
}

int available_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);  // fails beyond 1024 processors
  const int quota = cgroup_cores(SystemFiles{});
  if (quota > 0) cores = std::min(cores, quota);
  return std::max(cores, 1);
}

}  // namespace tqkv

#endif
