// What came of a blob so far, with its hash: a file that grows at its end.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "hub/digest.h"
#include "hub/settings.h"

namespace tqkv::hub {

class IncompleteFile {
 public:
  /// Opens or creates it, and hashes what is there. More than `bytes` is thrown away. Throws Error(io), and Stopped.
  IncompleteFile(const std::filesystem::path& path, const std::string& etag, std::uint64_t bytes, const Stop& stop);
  ~IncompleteFile();
  IncompleteFile(const IncompleteFile&) = delete;
  IncompleteFile& operator=(const IncompleteFile&) = delete;

  std::uint64_t size() const { return size_; }
  /// Throws Error(io).
  void append(std::span<const std::byte> bytes);
  /// Throws away what came. Throws Error(io).
  void restart();
  /// The hash of all of it, in the form of the etag; empty when the etag is no hash. Ends the hash.
  std::string digest() { return digest_.hex(); }
  /// Syncs it and gives it the name `blob`. Throws Error(io).
  void complete(const std::filesystem::path& blob);

 private:
  std::filesystem::path path_;
  std::string etag_;
  std::uint64_t bytes_ = 0, size_ = 0;
  Digest digest_;
  int descriptor_ = -1;
};

}  // namespace tqkv::hub
