#include "hub/cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "base/file.h"
#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, std::string_view what, const std::error_code& error) {
  throw Error(ErrorKind::io, fmt::format("{}: {}: {}", path.string(), what, error.message()));
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(folder, "the folder cannot be created", error);
}

std::optional<std::uint64_t> size_of_file(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  const std::uint64_t size = fs::file_size(path, error);
  return error ? std::nullopt : std::optional(size);
}

bool are_one_file(int descriptor, const fs::path& path) {
  struct stat held {
  }, named{};
  return ::fstat(descriptor, &held) == 0 && ::stat(path.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
         held.st_ino == named.st_ino;
}

/// Whether flock() fails because the file system has no locks, as some network and user-space ones.
bool has_no_locks(int reason) {
  return reason == ENOSYS || reason == ENOTSUP || reason == EOPNOTSUPP || reason == ENOLCK || reason == EINVAL;
}

}  // namespace

RepositoryCache::RepositoryCache(const fs::path& cache, const HubName& name)
    : repository_(cache / hub_folder(name)), locks_(cache / ".locks" / hub_folder(name)) {}

fs::path RepositoryCache::blob(const std::string& etag) const {
  return repository_ / "blobs" / etag;
}

fs::path RepositoryCache::incomplete(const std::string& etag) const {
  return repository_ / "blobs" / (etag + ".incomplete");
}

fs::path RepositoryCache::lock(const std::string& etag) const {
  return locks_ / (etag + ".lock");
}

fs::path RepositoryCache::snapshot(const std::string& commit) const {
  return repository_ / "snapshots" / commit;
}

bool RepositoryCache::has_blob(const std::string& etag, std::uint64_t bytes) const {
  return size_of_file(blob(etag)) == bytes;
}

bool RepositoryCache::has_links() const {
  const fs::path probe = repository_ / "blobs" / fmt::format(".link-{}", ::getpid());
  std::error_code error;
  fs::remove(probe, error);
  fs::create_symlink("nothing", probe, error);
  const bool has = !error;
  fs::remove(probe, error);
  return has;
}

bool RepositoryCache::has_copy(const std::string& commit, const std::string& path, std::uint64_t bytes) const {
  std::error_code error;
  const fs::path place = snapshot(commit) / path;
  return fs::is_regular_file(fs::symlink_status(place, error)) && size_of_file(place) == bytes;
}

std::uint64_t RepositoryCache::bytes_kept(const std::string& etag, std::uint64_t bytes) const {
  if (has_blob(etag, bytes)) return bytes;
  const std::uint64_t part = size_of_file(incomplete(etag)).value_or(0);
  return part <= bytes ? part : 0;
}

void RepositoryCache::prepare(const std::string& commit) const {
  make_folder(repository_ / "blobs");
  make_folder(snapshot(commit));
  make_folder(locks_);
}

void RepositoryCache::link(const std::string& commit, const std::string& path, const std::string& etag) const {
  const fs::path place = snapshot(commit) / path;
  make_folder(place.parent_path());
  const fs::path target = blob(etag).lexically_relative(place.parent_path());
  std::error_code error;
  if (fs::read_symlink(place, error) == target && !error) return;
  // Under a name of its own first, so that the place is never without its file.
  const fs::path temporary =
      place.parent_path() /
      fmt::format(".link-{}-{}", ::getpid(), std::hash<std::thread::id>{}(std::this_thread::get_id()));
  fs::remove(temporary, error);
  fs::create_symlink(target, temporary, error);
  if (error) {
    // A copy of the right size that is there already, huggingface_hub's perhaps, is as good as another one.
    const std::optional<std::uint64_t> copied = size_of_file(place);
    if (copied && copied == size_of_file(blob(etag)) && !fs::is_symlink(fs::symlink_status(place, error))) return;
    const TemporaryName listed(temporary);
    fs::copy_file(blob(etag), temporary, fs::copy_options::overwrite_existing, error);
    if (error) {
      const std::error_code reason = error;
      fs::remove(temporary, error);
      fail(place, "can be neither a link nor a copy", reason);
    }
    fs::rename(temporary, place, error);
    if (error) fail(place, "cannot be put in place", error);
    return;
  }
  fs::rename(temporary, place, error);
  if (error) fail(place, "cannot be put in place", error);
}

void RepositoryCache::point(const std::string& revision, const std::string& commit) const {
  if (revision == commit) return;
  AtomicFile file(repository_ / "refs" / revision);
  file.write(commit);
  file.commit();
}

FileLock::FileLock(const fs::path& path, const Stop& stop, const std::function<void()>& waiting) {
  bool told = false;
  while (true) {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail(path, "cannot be opened", std::error_code(errno, std::generic_category()));
    const bool held = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
    const int reason = errno;
    // Who gave it back may have removed the file: then it locks nothing.
    if (held && are_one_file(descriptor_, path)) return;
    ::close(descriptor_);
    descriptor_ = -1;
    if (held) continue;
    if (has_no_locks(reason)) return;
    if (reason != EWOULDBLOCK && reason != EINTR)
      fail(path, "cannot be locked", std::error_code(reason, std::generic_category()));
    if (!told && waiting) waiting();
    told = true;
    if (stop()) throw Stopped{};
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

FileLock::~FileLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace tqkv::hub
