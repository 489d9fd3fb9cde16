// The file of --output, or standard output for "-".
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"

namespace tqkv::cli {

/// Written completely or not at all, as AtomicFile; standard output gets what is written at once. Throws Error(io).
class OutputFile {
 public:
  /// Creates the file under a temporary name: what cannot be written is known before the work.
  explicit OutputFile(const std::string& path);
  bool is_standard_output() const { return !file_; }
  void write(std::string_view text);
  void write(std::span<const std::byte> bytes);
  void commit();

 private:
  std::optional<AtomicFile> file_;
};

/// Prints what people read: to standard output, or to standard error where `output`, the option, sends the file there.
void print_result(const std::string& output, std::string_view text);

}  // namespace tqkv::cli
