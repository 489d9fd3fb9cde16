#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <system_error>

#include "base/numbers.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, std::string_view what, int error) {
  throw Error(ErrorKind::io, fmt::format("{}: {}: {}", path.string(), what, std::generic_category().message(error)));
}

/// Closes at the end of a scope.
struct Descriptor {
  int value = -1;
  explicit Descriptor(int descriptor) : value(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

int open_retrying(const fs::path& path, int flags, mode_t mode = 0) {
  int descriptor;
  do descriptor = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

/// What a chain of links leads to, whether it is there or not.
fs::path behind_links(fs::path path) {
  constexpr int most_links = 40;  // as Linux counts
  std::error_code error;
  for (int links = 0; fs::is_symlink(fs::symlink_status(path, error)); ++links) {
    if (links == most_links) fail(path, "cannot be written", ELOOP);
    const fs::path target = fs::read_symlink(path, error);
    if (error) fail(path, "cannot be read", error.value());
    path = path.parent_path() / target;
  }
  return path;
}

/// Next to `path`. A long name is cut, so that this one is no longer than it.
fs::path temporary_name(const fs::path& path, unsigned random) {
  constexpr std::size_t longest = 255;  // bytes of a name on Linux and macOS
  const std::string ending = fmt::format(".part-{}-{:08x}", ::getpid(), random);
  std::string name = path.filename().string();
  if (name.size() <= longest && name.size() + ending.size() > longest) name.resize(longest - ending.size());
  return path.parent_path() / (name + ending);
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor file(open_retrying(path, O_RDONLY | O_NONBLOCK));  // a pipe would wait for its writer
  if (file.value < 0) fail(path, "cannot be opened", errno);
  struct stat status {};
  if (::fstat(file.value, &status) != 0) fail(path, "cannot be read", errno);
  if (!S_ISREG(status.st_mode))
    throw Error(ErrorKind::io, fmt::format("{}: is not a regular file and cannot be mapped", path.string()));
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.value, 0);
  if (data == MAP_FAILED) fail(path, fmt::format("{} bytes cannot be mapped", size_), errno);
  data_ = static_cast<const std::byte*>(data);
#if defined(MADV_HUGEPAGE)
  // What is not in memory yet is read, and mapped, in pages of 2 MB where the file system can: fewer, longer reads, and
  // a fifth more GB/s later (docs/performance.md). Only advice: where it is refused nothing changes.
  ::madvise(data, size_, MADV_HUGEPAGE);
#endif
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void let_go(std::span<const std::byte> mapped) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<std::uintptr_t>(mapped.data()) + page - 1) / page * page;
  const auto last = (reinterpret_cast<std::uintptr_t>(mapped.data()) + mapped.size()) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

std::string read_text(const fs::path& path, std::size_t limit) {
  const Descriptor file(open_retrying(path, O_RDONLY));
  if (file.value < 0) fail(path, "cannot be opened", errno);
  std::string text;
  constexpr std::size_t chunk = std::size_t{1} << 16;
  struct stat status {};
  if (::fstat(file.value, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0)
    text.reserve(std::min(static_cast<std::size_t>(status.st_size), limit) + chunk);
  while (true) {
    const std::size_t old = text.size();
    text.resize(old + chunk);
    const ssize_t got = ::read(file.value, text.data() + old, chunk);
    if (got < 0 && errno != EINTR) fail(path, "cannot be read", errno);
    text.resize(old + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got == 0) return text;
    if (text.size() > limit)
      throw Error(ErrorKind::io,
                  fmt::format("{}: has more than {} bytes, which is the most that is read from such a file",
                              path.string(), limit));
  }
}

AtomicFile::AtomicFile(const fs::path& path, unsigned mode) {
  if (path.empty() || !path.has_filename())
    throw Error(ErrorKind::io, fmt::format("\"{}\": is not the name of a file to write", path.string()));
  path_ = behind_links(path);
  struct stat old {};
  const bool exists = ::stat(path_.c_str(), &old) == 0;
  if (!exists && errno != ENOENT) fail(path_, "cannot be written", errno);
  if (exists && S_ISDIR(old.st_mode)) fail(path_, "cannot be written", EISDIR);
  if (exists && ::faccessat(AT_FDCWD, path_.c_str(), W_OK, AT_EACCESS) != 0)
    fail(path_, "cannot be written", errno);  // renaming would ask less
  if (exists && !S_ISREG(old.st_mode)) {      // a device or a pipe: nothing to rename
    descriptor_ = open_retrying(path_, O_WRONLY);
    if (descriptor_ < 0) fail(path_, "cannot be opened for writing", errno);
    return;
  }
  std::error_code error;
  if (path_.has_parent_path()) {
    fs::create_directories(path_.parent_path(), error);
    if (error) fail(path_.parent_path(), "the folder cannot be created", error.value());
  }
  // Nobody else has this name, so that it can be listed for removal before the file is there.
  std::random_device random;
  for (int attempt = 0; descriptor_ < 0; ++attempt) {
    temporary_ = temporary_name(path_, random());
    listed_ = TemporaryName(temporary_);
    descriptor_ = open_retrying(temporary_, O_WRONLY | O_CREAT | O_EXCL, exists ? 0600 : mode);
    if (descriptor_ < 0 && (errno != EEXIST || attempt == 10)) {
      const int reason = errno;
      temporary_.clear();
      fail(path_, "cannot be created", reason);
    }
  }
  if (!exists) return;
  // The owner first, which may take permissions away. Only root can give a file to another user: where that fails, the
  // file is its writer's, as with every program that replaces files.
  if (old.st_uid != ::geteuid() || old.st_gid != ::getegid())
    if (::fchown(descriptor_, old.st_uid, old.st_gid) != 0)
      static_cast<void>(::fchown(descriptor_, uid_t(-1), old.st_gid));
  static_cast<void>(::fchmod(descriptor_, old.st_mode & 07777));
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

template <class Put>
void AtomicFile::put(std::span<const std::byte> bytes, const Put& put) {
  if (descriptor_ < 0)
    throw Error(ErrorKind::internal, fmt::format("{}: written after it was complete", path_.string()));
  while (!bytes.empty()) {
    const std::size_t most = std::min(bytes.size(), std::size_t{1} << 30);  // some systems refuse 2 GiB at once
    const ssize_t written = put(bytes.data(), most);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path_, "cannot be written", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  put(bytes, [&](const std::byte* data, std::size_t size) { return ::write(descriptor_, data, size); });
}

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  put(bytes, [&](const std::byte* data, std::size_t size) {
    const ssize_t written = ::pwrite(descriptor_, data, size, static_cast<off_t>(offset));
    offset += static_cast<std::uint64_t>(std::max<ssize_t>(written, 0));
    return written;
  });
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  if (descriptor_ < 0) throw Error(ErrorKind::internal, fmt::format("{}: completed twice", path_.string()));
  if (!temporary_.empty() && ::fsync(descriptor_) != 0) fail(path_, "cannot be written", errno);
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0 && errno != EINTR) fail(path_, "cannot be written", errno);
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "cannot be put in place", errno);
  temporary_.clear();
  listed_.clear();
  // The name is durable once the folder is synced; a file system that cannot do that is no error.
  const Descriptor folder(open_retrying(path_.has_parent_path() ? path_.parent_path() : fs::path("."), O_RDONLY));
  if (folder.value >= 0) (void)::fsync(folder.value);
}

void require_room(const fs::path& path, std::uint64_t bytes, std::string_view what, std::string_view remedy) {
  const fs::path place = behind_links(path);
  std::error_code error;
  const fs::file_status status = fs::status(place, error);
  if (fs::exists(status) && !fs::is_regular_file(status)) return;
  const std::optional<std::uint64_t> free = free_space(place);
  if (free && *free < bytes)
    throw Error(ErrorKind::io, fmt::format("{}: {} takes {} bytes, but the disk has {} free: {}", path.string(), what,
                                           grouped(bytes), grouped(*free), remedy));
}

std::optional<std::uint64_t> free_space(fs::path path) {
  std::error_code error;
  path = fs::absolute(path, error);
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  const fs::space_info space = fs::space(path, error);
  return error ? std::nullopt : std::optional<std::uint64_t>(space.available);
}

}  // namespace tqkv
