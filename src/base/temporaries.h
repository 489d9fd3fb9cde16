// Temporary files of this process by name, so that a signal that ends it can remove them.
#pragma once
#include <atomic>
#include <filesystem>

namespace tqkv {

/// Keeps the name of a temporary file in the list while it lives. The list has room for 256 names; further ones are
/// left out of it. Does not touch the file.
class TemporaryName {
 public:
  TemporaryName() = default;
  explicit TemporaryName(const std::filesystem::path& path);
  ~TemporaryName() { clear(); }
  TemporaryName(TemporaryName&& other) noexcept;
  TemporaryName& operator=(TemporaryName&& other) noexcept;
  /// Takes the name off the list: the file is gone or has its final name.
  void clear() noexcept;

 private:
  std::atomic<char*>* slot_ = nullptr;
  char* name_ = nullptr;
};

/// Removes the files of the list. Makes only calls that a signal handler may make.
void remove_temporaries() noexcept;

}  // namespace tqkv
