// Files of checkpoints as their makers published them: enough to tell without a network what a download takes, and
// whether a folder holds those bytes.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace tqkv {

struct PublishedFile {
  std::string_view path;
  std::uint64_t bytes = 0;
  std::string_view sha256;  // 64 hex digits
};

struct PublishedCheckpoint {
  std::string_view id;        // "org/name"
  std::string_view revision;  // the commit that has these files
  std::span<const PublishedFile> files;

  std::uint64_t bytes() const;  ///< of all files
};

/// What is recorded of the repository `id`, or nothing.
const PublishedCheckpoint* published_checkpoint(std::string_view id);
/// The recorded checkpoint whose config.json has this sha256, or nothing.
const PublishedCheckpoint* published_with_config(std::string_view sha256);

}  // namespace tqkv
