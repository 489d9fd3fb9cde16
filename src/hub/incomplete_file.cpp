#include "hub/incomplete_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view what) {
  throw Error(ErrorKind::io, fmt::format("{}: {}: {}", path.string(), what, std::generic_category().message(errno)));
}

}  // namespace

IncompleteFile::IncompleteFile(const std::filesystem::path& path, const std::string& etag, std::uint64_t bytes,
                               const Stop& stop)
    : path_(path), etag_(etag), bytes_(bytes), digest_(Digest::like(etag, bytes)) {
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail(path, "cannot be opened");
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) fail(path, "cannot be read");
  if (static_cast<std::uint64_t>(status.st_size) > bytes) {
    restart();
    return;
  }
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  while (true) {
    if (stop()) throw Stopped{};
    const ssize_t count = ::read(descriptor_, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, "cannot be read");
    if (count == 0) return;
    size_ += static_cast<std::uint64_t>(count);
    digest_.add(std::span(buffer).first(static_cast<std::size_t>(count)));
  }
}

IncompleteFile::~IncompleteFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void IncompleteFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    // At its own place: where a file system has no locks, a second process writes the same bytes to the same places.
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path_, "cannot be written");
    const auto written = static_cast<std::size_t>(count);
    digest_.add(bytes.first(written));
    size_ += written;
    bytes = bytes.subspan(written);
  }
}

void IncompleteFile::restart() {
  if (::ftruncate(descriptor_, 0) != 0) fail(path_, "cannot be written");
  size_ = 0;
  digest_ = Digest::like(etag_, bytes_);
}

void IncompleteFile::complete(const std::filesystem::path& blob) {
  if (::fsync(descriptor_) != 0) fail(path_, "cannot be written");
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0 && errno != EINTR) fail(path_, "cannot be written");
  if (::rename(path_.c_str(), blob.c_str()) != 0) fail(blob, "cannot be put in place");
}

}  // namespace tqkv::hub
