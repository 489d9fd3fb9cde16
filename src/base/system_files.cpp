#include "base/system_files.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tqkv {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> leading_number(std::string_view text) {
  const std::size_t start = text.find_first_not_of(" \t");
  if (start == std::string_view::npos) return std::nullopt;
  std::uint64_t value = 0;
  const auto result = std::from_chars(text.data() + start, text.data() + text.size(), value);
  if (result.ec != std::errc{}) return std::nullopt;
  return value;
}

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

/// Calls `visit` with each line until it returns true.
void each_line(const fs::path& path, const std::function<bool(std::string_view)>& visit) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (visit(line)) return;
}

struct Groups {
  std::vector<fs::path> unified;  // version 2: own group first, then its parents
  std::vector<fs::path> legacy;   // version 1, of one controller
};

/// The path in /proc/self/cgroup may be the host's while the container sees its own group as the root: parents up to
/// the root are listed too, and files that are not there are skipped by the readers.
Groups groups_of(const SystemFiles& files, std::string_view controller) {
  Groups groups;
  const auto add = [](std::vector<fs::path>& list, const fs::path& root, std::string_view path) {
    fs::path relative = fs::path(path).relative_path().lexically_normal();
    if (!relative.empty() && *relative.begin() == "..") relative.clear();  // a group outside this namespace
    for (; !relative.empty() && relative != "."; relative = relative.parent_path()) list.push_back(root / relative);
    list.push_back(root);
  };
  each_line(files.proc / "self" / "cgroup", [&](std::string_view line) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) return false;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view path = line.substr(second + 1);
    if (controllers.empty()) add(groups.unified, files.cgroup, path);
    const std::string all = "," + std::string(controllers) + ",";
    if (all.find("," + std::string(controller) + ",") != std::string::npos)
      add(groups.legacy, files.cgroup / std::string(controller), path);
    return false;
  });
  if (groups.unified.empty() && groups.legacy.empty()) {
    groups.unified = {files.cgroup};
    groups.legacy = {files.cgroup / std::string(controller)};
  }
  return groups;
}

std::uint64_t statistic(const fs::path& path, std::string_view key) {
  std::uint64_t value = 0;
  each_line(path, [&](std::string_view line) {
    if (line.size() <= key.size() || line.substr(0, key.size()) != key || line[key.size()] != ' ') return false;
    value = leading_number(line.substr(key.size())).value_or(0);
    return true;
  });
  return value;
}

struct Usage {
  std::uint64_t limit = unlimited;
  std::uint64_t left = unlimited;
};

void account(Usage& usage, const fs::path& group, const char* limit_file, const char* used_file,
             std::string_view prefix) {
  const auto limit = leading_number(first_line(group / limit_file));  // "max" is no number
  if (!limit || *limit >= (std::uint64_t{1} << 62)) return;           // version 1 writes a huge number for no limit
  const std::uint64_t used = leading_number(first_line(group / used_file)).value_or(0);
  const std::uint64_t files = statistic(group / "memory.stat", std::string(prefix) + "active_file") +
                              statistic(group / "memory.stat", std::string(prefix) + "inactive_file");
  const std::uint64_t held = used - std::min(used, files);
  usage.limit = std::min(usage.limit, *limit);
  usage.left = std::min(usage.left, *limit - std::min(*limit, held));
}

Usage memory_usage(const SystemFiles& files) {
  const Groups groups = groups_of(files, "memory");
  Usage usage;
  for (const fs::path& group : groups.unified) account(usage, group, "memory.max", "memory.current", "");
  for (const fs::path& group : groups.legacy)
    account(usage, group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_");
  return usage;
}

}  // namespace

std::uint64_t cgroup_memory_limit(const SystemFiles& files) {
  return memory_usage(files).limit;
}

std::uint64_t cgroup_memory_left(const SystemFiles& files) {
  return memory_usage(files).left;
}

int cgroup_cores(const SystemFiles& files) {
  const Groups groups = groups_of(files, "cpu");
  std::uint64_t cores = 0;
  const auto quota = [&](std::optional<std::uint64_t> time, std::optional<std::uint64_t> period) {
    if (!time || !period || *time == 0 || *period == 0) return;
    const std::uint64_t whole = std::min<std::uint64_t>(*time / *period + (*time % *period != 0), 1u << 20);
    cores = cores == 0 ? whole : std::min(cores, whole);
  };
  for (const fs::path& group : groups.unified) {
    const std::string line = first_line(group / "cpu.max");  // "200000 100000" or "max 100000"
    const std::size_t space = line.find(' ');
    if (space != std::string::npos) quota(leading_number(line), leading_number(std::string_view(line).substr(space)));
  }
  for (const fs::path& group : groups.legacy)
    quota(leading_number(first_line(group / "cpu.cfs_quota_us")),
          leading_number(first_line(group / "cpu.cfs_period_us")));
  return static_cast<int>(cores);
}

std::uint64_t proc_number(const SystemFiles& files, std::string_view file, std::string_view key) {
  std::uint64_t number = 0;
  each_line(files.proc / std::string(file), [&](std::string_view line) {
    if (line.size() <= key.size() || line.substr(0, key.size()) != key || line[key.size()] != ':') return false;
    number = leading_number(line.substr(key.size() + 1)).value_or(0);
    return true;
  });
  return number;
}

std::uint64_t proc_kilobytes(const SystemFiles& files, std::string_view file, std::string_view key) {
  return std::min(proc_number(files, file, key), unlimited / 1024) * 1024;
}

}  // namespace tqkv
