#include "hub/verify.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <system_error>

#include "base/file.h"
#include "base/numbers.h"
#include "hub/digest.h"
#include "hub/protocol.h"
#include "hub/pull.h"
#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

namespace fs = std::filesystem;

/// Reads a file through a digest. Returns its fault, or nothing.
class Reader {
 public:
  Reader(const Stop& stop, const std::function<void(std::size_t)>& read) : stop_(stop), read_(read) {}

  std::string digest(const fs::path& path, const std::string& like, std::uint64_t bytes, std::string& fault) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
      fault = fmt::format("cannot be opened: {}", std::generic_category().message(errno));
      return "";
    }
    Digest digest = Digest::like(like, bytes);
    while (fault.empty()) {
      const ssize_t count = stop_() ? 0 : ::read(descriptor, buffer_.data(), buffer_.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fault = fmt::format("cannot be read: {}", std::generic_category().message(errno));
      if (count <= 0) break;
      digest.add(std::span(buffer_).first(static_cast<std::size_t>(count)));
      read_(static_cast<std::size_t>(count));
    }
    ::close(descriptor);
    if (stop_()) throw Stopped{};
    return digest.hex();
  }

 private:
  const Stop& stop_;
  const std::function<void(std::size_t)>& read_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(std::size_t{1} << 20);
};

/// The name of the blob that a file of a snapshot is a copy of, as where there are no links; empty when there is none.
/// Of several with its size it is the one with its hash.
std::string blob_like(const fs::path& copy) {
  std::error_code error;
  const fs::path blobs = copy.parent_path().parent_path().parent_path() / "blobs";
  const std::uint64_t bytes = fs::file_size(copy, error);
  std::vector<std::string> candidates;
  fs::directory_iterator entry(blobs, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    std::error_code failed;
    if (is_digest(entry->path().filename().string()) && entry->is_regular_file(failed) &&
        entry->file_size(failed) == bytes)
      candidates.push_back(entry->path().filename().string());
  }
  if (candidates.size() < 2) return candidates.empty() ? "" : candidates.front();
  const Stop never;
  const std::function<void(std::size_t)> nothing = [](std::size_t) {};
  Reader reader(never, nothing);
  for (const std::string& candidate : candidates) {
    std::string fault;
    if (reader.digest(copy, candidate, bytes, fault) == candidate) return candidate;
  }
  return candidates.front();
}

/// What can be said without reading the file.
std::string fault_of_size(const fs::path& path, const ExpectedFile& expected, std::uint64_t& bytes) {
  std::error_code error;
  if (!fs::exists(path, error)) return "is missing";
  if (!fs::is_regular_file(path, error)) return "is no regular file";
  bytes = fs::file_size(path, error);
  if (error) return fmt::format("cannot be read: {}", error.message());
  if (expected.bytes && bytes != *expected.bytes)
    return fmt::format("has {} bytes, expected {}", grouped(bytes), grouped(*expected.bytes));
  return "";
}

}  // namespace

std::size_t Verification::faults() const {
  return static_cast<std::size_t>(
      std::count_if(files.begin(), files.end(), [](const CheckedFile& file) { return !file.fault.empty(); }));
}

ExpectedFiles expected_files(const PublishedCheckpoint& published) {
  ExpectedFiles expected;
  expected.source = fmt::format("the recorded list of {}@{}", published.id, published.revision);
  for (const PublishedFile& file : published.files)
    expected.files.push_back({std::string(file.path), file.bytes, std::string(file.sha256)});
  return expected;
}

ExpectedFiles expected_files(const Settings& settings, const HubName& name, const std::atomic<bool>* cancel) {
  if (!settings.offline.empty())
    throw Error(ErrorKind::hub, fmt::format("{} is not asked for {}: {} is set: unset it", settings.endpoint,
                                            name.text(), settings.offline));
  const Stop stop(cancel);
  try {
    const Listing listing = Client(settings, stop).list(name);
    ExpectedFiles expected;
    expected.source = fmt::format("{}/{} at {}", settings.endpoint, name.id, listing.commit);
    for (const ListedFile& file : listing.files) {
      if (!is_needed(file.path)) continue;
      if (file.digest.empty())
        throw Error(ErrorKind::hub,
                    fmt::format("{}: {}: gives no hash of {}", settings.endpoint, name.text(), file.path));
      expected.files.push_back({file.path, file.bytes, file.digest});
    }
    return expected;
  } catch (const Stopped&) {
    throw Error(ErrorKind::hub, fmt::format("{}: {}: interrupted", settings.endpoint, name.text()));
  }
}

std::optional<ExpectedFiles> expected_files(const fs::path& directory) {
  ExpectedFiles expected;
  std::vector<ExpectedFile> without_blob;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    std::error_code failed;
    std::string name;
    if (entry->is_symlink(failed)) {
      const fs::path target = fs::read_symlink(entry->path(), failed);
      if (target.parent_path().filename() == "blobs") name = target.filename().string();
    } else if (entry->is_regular_file(failed) && is_needed(entry->path().filename().string())) {
      name = blob_like(entry->path());
    }
    if (is_digest(name))
      expected.files.push_back({entry->path().filename().string(), std::nullopt, name});
    else if (entry->is_regular_file(failed) && is_needed(entry->path().filename().string()))
      without_blob.push_back({entry->path().filename().string(), std::nullopt, ""});
  }
  if (expected.files.empty()) return std::nullopt;
  expected.files.insert(expected.files.end(), without_blob.begin(), without_blob.end());
  std::sort(expected.files.begin(), expected.files.end(),
            [](const ExpectedFile& a, const ExpectedFile& b) { return a.path < b.path; });
  // A file without a link has no name that tells its hash, but a checkpoint needs some.
  if (const std::string missing = missing_from(directory); !missing.empty())
    expected.files.push_back({missing, std::nullopt, ""});
  expected.source = "the names of the cache's blobs, which are the hashes that the hub gave";
  return expected;
}

std::string sha256_of(const fs::path& path) {
  const std::string text = read_text(path);
  Digest digest = Digest::sha256();
  digest.add(std::as_bytes(std::span(text)));
  return digest.hex();
}

Verification verify(const fs::path& directory, const ExpectedFiles& expected, const std::atomic<bool>* cancel,
                    const std::function<void(std::uint64_t, std::uint64_t)>& progress,
                    const std::function<void(const CheckedFile&)>& checked) {
  Verification result;
  std::uint64_t done = 0, total = 0;
  for (const ExpectedFile& file : expected.files) {
    CheckedFile check{file, 0, ""};
    check.fault = fault_of_size(directory / file.path, file, check.bytes);
    if (check.fault.empty() && file.digest.empty()) check.fault = "is neither a link to a blob nor a copy of one";
    if (check.fault.empty()) total += check.bytes;
    result.files.push_back(std::move(check));
  }
  const Stop stop(cancel);
  const std::function<void(std::size_t)> count = [&](std::size_t bytes) {
    done += bytes;
    if (progress) progress(done, total);
  };
  Reader reader(stop, count);
  try {
    for (CheckedFile& check : result.files) {
      if (check.fault.empty()) {
        const ExpectedFile& file = check.expected;
        const std::string digest = reader.digest(directory / file.path, file.digest, check.bytes, check.fault);
        if (check.fault.empty() && digest != file.digest)
          check.fault = fmt::format("has the hash {}, expected {}", digest, file.digest);
      }
      if (checked) checked(check);
    }
  } catch (const Stopped&) {
    result.interrupted = true;
  }
  return result;
}

}  // namespace tqkv::hub
