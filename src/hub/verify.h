// Whether the files of a folder are those that were published.
#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "hub/settings.h"
#include "loaders/hub.h"
#include "loaders/published.h"

namespace tqkv::hub {

struct ExpectedFile {
  std::string path;
  std::optional<std::uint64_t> bytes;  ///< nothing when only the hash is known
  std::string digest;                  ///< sha256, or git's blob hash
};

struct ExpectedFiles {
  std::string source;  ///< where this is known from, for people
  std::vector<ExpectedFile> files;
};

ExpectedFiles expected_files(const PublishedCheckpoint& published);
/// What the hub says of the files that a checkpoint needs. Throws Error(hub).
ExpectedFiles expected_files(const Settings& settings, const HubName& name, const std::atomic<bool>* cancel);
/// What the names of the blobs say that a snapshot of the cache links to; nothing when `directory` is no such thing.
std::optional<ExpectedFiles> expected_files(const std::filesystem::path& directory);

/// Of a small file. Throws Error(io).
std::string sha256_of(const std::filesystem::path& path);

struct CheckedFile {
  ExpectedFile expected;
  std::uint64_t bytes = 0;
  std::string fault;  ///< what is wrong with it; empty when nothing is
};

struct Verification {
  std::vector<CheckedFile> files;
  bool interrupted = false;

  std::size_t faults() const;
};

/// Reads every expected file in `directory`. `progress` gets the bytes read of those to read; `checked` every file as
/// it is done. Files that are not expected do not matter.
Verification verify(const std::filesystem::path& directory, const ExpectedFiles& expected,
                    const std::atomic<bool>* cancel,
                    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress,
                    const std::function<void(const CheckedFile&)>& checked);

}  // namespace tqkv::hub
