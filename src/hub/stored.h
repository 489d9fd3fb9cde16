// What lies in the cache, and how it is removed.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "loaders/hub.h"

namespace tqkv::hub {

/// One commit of a repository in the cache.
struct StoredRevision {
  std::string commit;
  std::vector<std::string> names;  ///< branches and tags that point to it
  std::uint64_t bytes = 0;         ///< of its files, those shared with other revisions included
  std::string missing;             ///< what a whole checkpoint has and it lacks; empty when it is whole
};

struct StoredModel {
  std::string id;                ///< "org/name"
  std::filesystem::path folder;  ///< in the cache
  std::uint64_t bytes = 0;       ///< on the disk: every file once, unfinished downloads and copies included
  std::uint64_t unfinished = 0;  ///< of it, of downloads that have not come to their end
  std::vector<StoredRevision> revisions;

  /// Whether there is a whole checkpoint.
  bool whole() const;
};

/// The models in the cache in the order of their names; none where there is no cache. What cannot be read
/// in it is left out. Throws Error(io) for a cache that cannot be read itself.
std::vector<StoredModel> stored_models(const std::filesystem::path& cache);

/// What a removal would take away.
struct Removal {
  HubName name;
  std::vector<std::string> commits;          ///< whose snapshots go
  std::vector<std::filesystem::path> files;  ///< blobs and references that go; folders are not among them
  std::uint64_t bytes = 0;                   ///< that become free
  bool everything = false;                   ///< the whole repository goes
  std::filesystem::path folder;              ///< of the repository
};

/// `everything`: the whole repository. Else the revision of `name` alone, and its blobs that no other revision has.
/// Throws Error(checkpoint) for what is not in the cache, and Error(io) for a folder that is a link.
Removal plan_removal(const std::filesystem::path& cache, const HubName& name, bool everything);

/// Removes it. Nothing outside the repository's folder and its locks is touched, and no link is followed. Throws
/// Error(hub) while another process downloads to the repository, and Error(io).
void remove(const std::filesystem::path& cache, const Removal& removal);

}  // namespace tqkv::hub
