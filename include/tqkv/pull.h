// Pull: a checkpoint from a Hugging Face hub into the cache: first a plan, then the files of the plan. Implemented in
// src/hub.
//
//   const auto settings = tqkv::hub::settings_from_environment();
//   const auto plan = tqkv::hub::plan_pull(settings, *tqkv::parse_hub_name("org/name"));
//   const auto folder = tqkv::hub::pull(settings, plan).snapshot;  // for Model::open
#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tqkv/hub.h"
#include "tqkv/hub_name.h"

namespace tqkv::hub {

/// A file of a repository as the hub describes it.
struct FileMetadata {
  std::string path;
  std::string etag;  ///< safe as a file name
  std::uint64_t bytes = 0;
};

struct PlannedFile {
  FileMetadata file;
  std::uint64_t kept = 0;  ///< bytes of it that are in the cache
  bool copied = false;     ///< the snapshot has the file itself, not a link to a blob
};

struct PullPlan {
  HubName name;
  std::string commit;
  std::vector<PlannedFile> files;
  std::uint64_t free_bytes = 0;  ///< on the disk of the cache

  std::uint64_t bytes() const;          ///< of all files
  std::uint64_t missing_bytes() const;  ///< that are not in the cache yet
};

struct PullProgress {
  std::uint64_t kept = 0, bytes = 0;  ///< that are here, of how many
  std::uint64_t received = 0;         ///< that came over the network now
};

/// Called in the thread that called pull().
struct PullEvents {
  std::function<void(const PullProgress&)> progress;  ///< about ten times a second
  std::function<void(const PlannedFile&)> complete;   ///< a file is whole and in its place
  std::function<void(const FileMetadata&)> waiting;   ///< another process is downloading this file
};

struct PullResult {
  bool interrupted = false;        ///< `cancel` was set: what came is kept
  std::filesystem::path snapshot;  ///< where the files are
  PullProgress progress;
};

/// Asks the hub what `name` is and how much of it is here. Throws Error(hub) and Error(checkpoint).
/// Once `cancel` is set, everything here ends with an Error(hub) or an interrupted result.
PullPlan plan_pull(const Settings& settings, const HubName& name, const std::atomic<bool>* cancel = nullptr);

/// Fetches what is missing, several files at once, and then says in the cache that the revision is there. Throws
/// Error(hub), and Error(io), also when the disk has too little room: before the first byte.
PullResult pull(const Settings& settings, const PullPlan& plan, const std::atomic<bool>* cancel = nullptr,
                const PullEvents& events = {});

}  // namespace tqkv::hub
