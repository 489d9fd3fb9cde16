// What commands read: files and standard input.
#pragma once
#include <string>

namespace tqkv::cli {

/// The whole of `path`, or of standard input when it is "-". Throws Error(io).
std::string read_input(const std::string& path);

/// Lines of a file, or of standard input when the path is empty or "-", without their line breaks.
class Lines {
 public:
  /// Throws Error(io).
  explicit Lines(const std::string& path);
  ~Lines();
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;
  /// False at the end. Throws Error(io).
  bool next(std::string& line);
  int number() const { return number_; }  ///< of the last line, from 1
  const std::string& name() const { return name_; }

 private:
  std::string name_, buffer_;
  std::size_t at_ = 0;
  int descriptor_ = -1;
  int number_ = 0;
  bool end_ = false;
};

}  // namespace tqkv::cli
