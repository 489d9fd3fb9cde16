#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

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

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor file(open_retrying(path, O_RDONLY));
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
  std::error_code error;
  if (path.empty() || !path.has_filename())
    throw Error(ErrorKind::io, fmt::format("\"{}\": is not the name of a file to write", path.string()));
  // A link is kept: what it points to is replaced.
  path_ = fs::is_symlink(fs::symlink_status(path, error)) ? fs::weakly_canonical(path, error) : path;
  if (path_.empty()) path_ = path;
  const fs::file_status status = fs::status(path_, error);
  if (fs::is_directory(status)) fail(path_, "cannot be written", EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) {  // a device or a pipe: nothing to rename
    descriptor_ = open_retrying(path_, O_WRONLY);
    if (descriptor_ < 0) fail(path_, "cannot be opened for writing", errno);
    return;
  }
  if (path_.has_parent_path()) {
    fs::create_directories(path_.parent_path(), error);
    if (error) fail(path_.parent_path(), "the folder cannot be created", error.value());
  }
  for (int attempt = 0; descriptor_ < 0; ++attempt) {
    temporary_ = path_;
    temporary_ += fmt::format(".part-{}-{}", ::getpid(), attempt);
    descriptor_ = open_retrying(temporary_, O_WRONLY | O_CREAT | O_EXCL, mode);
    if (descriptor_ < 0 && (errno != EEXIST || attempt == 1000)) {
      const int reason = errno;
      temporary_.clear();
      fail(path_, "cannot be created", reason);
    }
  }
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
  // The name is durable once the folder is synced; a file system that cannot do that is no error.
  const Descriptor folder(open_retrying(path_.has_parent_path() ? path_.parent_path() : fs::path("."), O_RDONLY));
  if (folder.value >= 0) (void)::fsync(folder.value);
}

}  // namespace tqkv
