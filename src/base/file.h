// Files: mapped for reading, read whole, written so that they are complete or absent.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/temporaries.h"

namespace tqkv {

/// A file mapped read-only.
class MappedFile {
 public:
  /// Throws Error(io), at once for what is no regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Lets go the memory of mapped bytes that are not needed soon: whole pages within them. They are read again when asked
/// for.
void let_go(std::span<const std::byte> mapped);

/// The whole of a file, at most `limit` bytes. Throws Error(io).
std::string read_text(const std::filesystem::path& path, std::size_t limit = std::size_t{1} << 30);

/// A file that appears under its name only when commit() has written everything and synced it: until then it is a
/// temporary file next to it, removed by the destructor. Parent folders are created. An existing file keeps its
/// permissions, and a link stays a link, also one to a file that is not there yet. Every failure is an Error(io).
class AtomicFile {
 public:
  /// `mode`: permissions of a new file, less the umask.
  explicit AtomicFile(const std::filesystem::path& path, unsigned mode = 0666);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// At a place of its own, which nothing that was written with write() may reach. Not for devices and pipes.
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  void commit();

 private:
  template <class Put>
  void put(std::span<const std::byte> bytes, const Put& put);

  std::filesystem::path path_, temporary_;
  TemporaryName listed_;
  int descriptor_ = -1;
};

/// Throws Error(io) when `path`, to be written again, has less than `bytes` of free disk: "PATH: WHAT takes …". A
/// device or a pipe needs no room.
void require_room(const std::filesystem::path& path, std::uint64_t bytes, std::string_view what,
                  std::string_view remedy);

/// Bytes that a user may write to the disk of `path`, which need not exist yet. Nothing where the system does not say.
std::optional<std::uint64_t> free_space(std::filesystem::path path);

}  // namespace tqkv
