// Verification: whether the files of a folder are those that were published. Implemented in src/hub.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tqkv/hub.h"
#include "tqkv/hub_name.h"

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

/// What is recorded of `name`, or unless it is, or where `online`, what a hub says, whose settings are those of the
/// environment. Throws Error(hub).
ExpectedFiles expected_files(const HubName& name, bool online = false, const std::atomic<bool>* cancel = nullptr);
/// The same for `model` as locate_model() takes it, whose files are in `folder`: of a snapshot in the cache, its own
/// commit; else what the folder itself tells, by names of blobs or a config.json that is recorded. Throws Error(hub),
/// Error(io), and Error(checkpoint) where nothing tells.
ExpectedFiles expected_files_of(std::string_view model, const std::filesystem::path& folder, bool online = false,
                                const std::atomic<bool>* cancel = nullptr);

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
                    const std::atomic<bool>* cancel = nullptr,
                    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress = {},
                    const std::function<void(const CheckedFile&)>& checked = {});

}  // namespace tqkv::hub
