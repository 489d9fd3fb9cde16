// What Linux tells about memory and processors through /proc and control groups. Paths are parameters so that tests can
// show a machine of their own.
#pragma once
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string_view>

namespace tqkv {

struct SystemFiles {
  std::filesystem::path proc = "/proc";
  std::filesystem::path cgroup = "/sys/fs/cgroup";
};

inline constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

/// Smallest memory limit of the control groups (version 1 or 2) that this process is in, in bytes; `unlimited` for
/// none.
std::uint64_t cgroup_memory_limit(const SystemFiles& files);
/// Smallest of limit - (usage - pages of files) over those groups: pages of files can be dropped. `unlimited` for none.
std::uint64_t cgroup_memory_left(const SystemFiles& files);
/// Processors that the quota of those groups allows, rounded up; 0 for no quota.
int cgroup_cores(const SystemFiles& files);
/// A line "key: 123" of a file under proc; 0 when there is none.
std::uint64_t proc_number(const SystemFiles& files, std::string_view file, std::string_view key);
/// A line "key: 123 kB" of a file under proc, in bytes; 0 when there is none.
std::uint64_t proc_kilobytes(const SystemFiles& files, std::string_view file, std::string_view key);

}  // namespace tqkv
