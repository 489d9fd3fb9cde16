#if defined(__APPLE__)

#include <libproc.h>
#include <mach/mach.h>
#include <sys/sysctl.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/memory_info.h"
#include "base/thread_pool.h"

namespace tqkv {

std::uint64_t total_memory() {
  std::uint64_t bytes = 0;
  std::size_t size = sizeof bytes;
  return sysctlbyname("hw.memsize", &bytes, &size, nullptr, 0) == 0 ? bytes : 0;
}

std::uint64_t available_memory() {
  vm_statistics64_data_t pages{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  const mach_port_t host = mach_host_self();
  const kern_return_t result = host_statistics64(host, HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &count);
  mach_port_deallocate(mach_task_self(), host);
  if (result != KERN_SUCCESS) return 0;
  const std::uint64_t reclaimable = std::uint64_t{pages.free_count} + pages.external_page_count + pages.purgeable_count;
  return std::min(reclaimable * static_cast<std::uint64_t>(vm_page_size), total_memory());
}

std::uint64_t anonymous_memory() {
  task_vm_info_data_t info{};
  mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
  if (task_info(mach_task_self(), TASK_VM_INFO, reinterpret_cast<task_info_t>(&info), &count) != KERN_SUCCESS) return 0;
  return info.internal;
}

std::uint64_t disk_reads() {
  rusage_info_v2 usage{};
  if (proc_pid_rusage(getpid(), RUSAGE_INFO_V2, reinterpret_cast<rusage_info_t*>(&usage)) != 0) return 0;
  return usage.ri_diskio_bytesread;
}

int available_cores() {
  return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
}

}  // namespace tqkv

#endif
