// What is known about files that were published.
#pragma once
#include <atomic>
#include <filesystem>
#include <optional>
#include <string>

#include "loaders/published.h"
#include "tqkv/verify.h"

namespace tqkv::hub {

ExpectedFiles expected_files(const PublishedCheckpoint& published);
/// What the hub says of the files that a checkpoint needs. Throws Error(hub).
ExpectedFiles expected_files(const Settings& settings, const HubName& name, const std::atomic<bool>* cancel);
/// What the names of the blobs say that a snapshot of the cache links to; nothing when `directory` is no such thing.
std::optional<ExpectedFiles> expected_files(const std::filesystem::path& directory);

/// Of a small file. Throws Error(io).
std::string sha256_of(const std::filesystem::path& path);

}  // namespace tqkv::hub
