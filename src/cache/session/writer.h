// SessionWriter: a session file, written tensor by tensor and complete under its name only at the end.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/checksum.h"
#include "base/file.h"
#include "cache/session/identity.h"
#include "cache/session/layout.h"

namespace tqkv::cache {

class SessionWriter {
 public:
  /// Throws Error(io), as the others do.
  SessionWriter(const std::filesystem::path& path, const Metadata& metadata, std::span<const SessionTensor> layout);
  /// The next bytes; they may end anywhere in a tensor, but belong to one alone. The checksums are the writer's own.
  void write(std::span<const std::byte> bytes);
  /// After the last byte.
  void commit();

 private:
  void end_tensors();

  AtomicFile file_;
  std::span<const SessionTensor> layout_;
  std::size_t data_;         // bytes of the header
  std::size_t at_;           // of the next byte, from the start of the data
  std::size_t tensor_ = 1;   // that it belongs to
  RunningChecksum running_;  // of this tensor
  std::vector<std::uint64_t> checksums_;
};

}  // namespace tqkv::cache
