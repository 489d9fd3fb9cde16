#include "runtime/plan/running.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <string_view>
#include <utility>

#include "base/memory_info.h"
#include "base/numbers.h"

namespace tqkv {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_file = 16384;
constexpr std::uint64_t large_share = 8;  // a model is large that takes an eighth of the memory

/// A folder that nobody else can write to.
bool is_own(const fs::path& folder) {
  struct stat status {};
  return ::lstat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == ::geteuid() &&
         (status.st_mode & 022u) == 0;
}

std::uint64_t number(const std::string& text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

/// "key value" a line.
std::map<std::string, std::string> fields_of(int descriptor) {
  std::string text(longest_file, '\0');
  const ssize_t length = ::pread(descriptor, text.data(), text.size(), 0);
  text.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  std::map<std::string, std::string> fields;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::size_t space = text.find(' ', at);
    if (space < end) fields[text.substr(at, space - at)] = text.substr(space + 1, end - space - 1);
    at = end + 1;
  }
  return fields;
}

std::uint64_t resident_of(int pid) {
#if defined(__linux__)
  return proc_kilobytes(SystemFiles{}, fmt::format("{}/status", pid), "RssAnon");
#else
  static_cast<void>(pid);
  return 0;
#endif
}

}  // namespace

fs::path running_folder() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime == '/') return fs::path(runtime) / "tqkv";
  std::error_code ignored;
  return fs::temp_directory_path(ignored) / fmt::format("tqkv-{}", ::geteuid());
}

std::vector<RunningProcess> running_processes(const fs::path& folder) {
  std::vector<RunningProcess> found;
  if (!is_own(folder)) return found;
  std::error_code failed;
  for (fs::directory_iterator entry(folder, failed), end; !failed && entry != end; entry.increment(failed)) {
    const std::string name = entry->path().filename().string();
    const int pid = static_cast<int>(std::min<std::uint64_t>(number(name), 1u << 30));
    if (std::to_string(pid) != name || pid == ::getpid()) continue;
    const int descriptor = ::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor < 0) continue;
    if (::flock(descriptor, LOCK_SH | LOCK_NB) == 0) {  // nobody holds it any more
      ::unlink(entry->path().c_str());
    } else {
      std::map<std::string, std::string> fields = fields_of(descriptor);
      found.push_back({pid, fields["model"], fields["directory"], number(fields["weights"]),
                       number(fields["anonymous"]), resident_of(pid)});
    }
    ::close(descriptor);
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.pid < b.pid; });
  return found;
}

Announcement::Announcement(const std::string& model, const fs::path& directory, std::uint64_t weights,
                           std::uint64_t anonymous, const fs::path& folder) {
  ::mkdir(folder.c_str(), 0700);
  if (!is_own(folder)) return;
  const fs::path path = folder / std::to_string(::getpid()), fresh = folder / fmt::format("new-{}", ::getpid());
  ::unlink(fresh.c_str());
  descriptor_ = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (descriptor_ < 0) return;
  std::error_code ignored;
  const fs::path canonical = fs::weakly_canonical(directory, ignored);
  const std::string text = fmt::format("model {}\ndirectory {}\nweights {}\nanonymous {}\n", one_line(model),
                                       one_line(canonical.string()), weights, anonymous);
  // Locked before it has its name, so that nobody takes it for the file of a process that ended.
  const bool said = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 && text.size() <= longest_file &&
                    ::write(descriptor_, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                    ::rename(fresh.c_str(), path.c_str()) == 0;
  if (said) {
    path_ = path;
    listed_ = TemporaryName(path);
    return;
  }
  ::unlink(fresh.c_str());
  ::close(descriptor_);
  descriptor_ = -1;
}

Announcement::~Announcement() {
  if (descriptor_ < 0) return;
  struct stat held {
  }, named{};
  if (::fstat(descriptor_, &held) == 0 && ::stat(path_.c_str(), &named) == 0 && held.st_ino == named.st_ino)
    ::unlink(path_.c_str());  // a later announcement of this process has taken the name otherwise
  ::close(descriptor_);
}

Announcement::Announcement(Announcement&& other) noexcept
    : path_(std::move(other.path_)),
      listed_(std::move(other.listed_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

Announcement& Announcement::operator=(Announcement&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(listed_, other.listed_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

std::string describe_others(const std::vector<RunningProcess>& others, const MemoryPlan& plan,
                            const fs::path& directory, std::uint64_t total) {
  const auto large = [&](std::uint64_t bytes) { return bytes >= total / large_share; };
  if (total == 0 || !large(plan.total())) return {};
  std::error_code ignored;
  const fs::path own = fs::weakly_canonical(directory, ignored);
  std::map<fs::path, std::uint64_t> weights = {{own, plan.weights}};  // the same files are in memory once
  std::uint64_t sum = plan.anonymous();
  std::string list;
  for (const RunningProcess& other : others) {
    if (!large(other.weights + other.anonymous)) continue;
    weights[other.directory] = other.weights;
    sum += other.anonymous;
    list += fmt::format("{}process {} runs {} ({} of weights{}, {} in addition)", list.empty() ? "" : ", ", other.pid,
                        other.model, short_bytes(static_cast<double>(other.weights)),
                        other.directory == own ? ", the same" : "", short_bytes(static_cast<double>(other.anonymous)));
  }
  if (list.empty()) return {};
  for (const auto& [path, bytes] : weights) sum += bytes;
  return fmt::format("on this machine {}: together {} of {} of memory{}", list, short_bytes(static_cast<double>(sum)),
                     short_bytes(static_cast<double>(total)),
                     sum <= total ? "" : ": weights will be read from the disk again and again");
}

}  // namespace tqkv
