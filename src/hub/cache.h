// The cache of one repository, laid out as huggingface_hub lays it out: both read and write the same files.
//
//   models--org--name/blobs/<etag>                   contents, complete
//                     blobs/<etag>.incomplete        what came so far
//                     snapshots/<commit>/<path>      -> ../../blobs/<etag>
//                     refs/<revision>                the commit
//   .locks/models--org--name/<etag>.lock             held while a blob is written
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "hub/settings.h"
#include "loaders/hub.h"

namespace tqkv::hub {

class RepositoryCache {
 public:
  RepositoryCache(const std::filesystem::path& cache, const HubName& name);

  std::filesystem::path blob(const std::string& etag) const;
  std::filesystem::path incomplete(const std::string& etag) const;
  std::filesystem::path lock(const std::string& etag) const;
  std::filesystem::path snapshot(const std::string& commit) const;

  /// Bytes of the blob that are here: all of them when it is complete, else what came so far.
  std::uint64_t bytes_kept(const std::string& etag, std::uint64_t bytes) const;
  bool has_blob(const std::string& etag, std::uint64_t bytes) const;
  /// Whether the snapshot has the file itself, as where there are no links, of that size.
  bool has_copy(const std::string& commit, const std::string& path, std::uint64_t bytes) const;
  /// Whether the file system has symbolic links: tried out in a prepared cache.
  bool has_links() const;

  /// The folders that writing needs. Throws Error(io).
  void prepare(const std::string& commit) const;
  /// Puts `path` into the snapshot: a relative link to the blob, or a copy where there are no links. Throws Error(io).
  void link(const std::string& commit, const std::string& path, const std::string& etag) const;
  /// Says that `revision` is `commit`; nothing when it is the commit itself. Throws Error(io).
  void point(const std::string& revision, const std::string& commit) const;

 private:
  std::filesystem::path repository_, locks_;
};

/// A lock of the system on a file, that huggingface_hub takes as well. Given back when it goes, or when the process
/// does.
class FileLock {
 public:
  /// Waits for it; `waiting` is called once, when another process has it. Where the file system has no locks it goes on
  /// without: a blob gets its name only when it is whole, and every process writes the same bytes to the same places.
  /// Throws Error(io), and Stopped.
  FileLock(const std::filesystem::path& path, const Stop& stop, const std::function<void()>& waiting);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace tqkv::hub
