// What this process and this machine hold in memory and processors. Bytes; 0 where the system does not tell.
#pragma once
#include <cstdint>

#include "base/system_files.h"

namespace tqkv {

std::uint64_t available_memory();  ///< free for new anonymous memory, the limit of the container counted
std::uint64_t total_memory();      ///< of the machine or its container, the smaller
std::uint64_t anonymous_memory();  ///< of this process, resident (RssAnon)
std::uint64_t major_faults();      ///< of this process so far: pages that had to be read from a disk
std::uint64_t disk_reads();        ///< bytes that this process made disks read so far

#if defined(__linux__)
/// The same from the files of another machine.
std::uint64_t available_memory(const SystemFiles& files);
std::uint64_t total_memory(const SystemFiles& files);
std::uint64_t anonymous_memory(const SystemFiles& files);
std::uint64_t disk_reads(const SystemFiles& files);
#endif

}  // namespace tqkv
