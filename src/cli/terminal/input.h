// What commands read: files and standard input.
#pragma once
#include <cstddef>
#include <optional>
#include <string>

namespace tqkv::cli {

inline constexpr std::size_t largest_input = std::size_t{1} << 30;  ///< bytes
inline constexpr int piped_text_wait = 5000;                        ///< milliseconds

/// `path`, or "standard input" for "-".
std::string input_name(const std::string& path);

/// The whole of `path`, at most `limit` bytes, or of standard input when it is "-": UTF-8 without a byte order mark,
/// UTF-16 with one converted. Throws Error(io), Error(input).
std::string read_input(const std::string& path, std::size_t limit = largest_input);

/// `text` with U+FFFD for what is no UTF-8, after a note with the place of the first in `name`, whose line `line` is
/// the first of the text.
std::string valid_text(std::string text, const std::string& name, int line = 1);

/// read_input() as valid_text().
std::string read_text_input(const std::string& path);

/// Text that was piped or redirected to standard input, for commands that can do without: nothing where standard input
/// is a terminal, a device, closed or empty, or an open pipe or socket that stays silent for `piped_text_wait`
/// milliseconds, as one inherited from a supervisor or ssh does; a note says so then. From the first byte on it is read
/// to its end, however long that takes.
std::optional<std::string> read_piped_text();

/// read_input() for JSON: what is no UTF-8 is an Error(input) that names the place.
std::string read_json_input(const std::string& path, std::size_t limit = largest_input);

/// Lines of a file, or of standard input when the path is empty or "-", without their line breaks. Encodings are those
/// of read_input().
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
  void begin();

  std::string name_, buffer_;
  std::size_t at_ = 0;
  int descriptor_ = -1;
  int number_ = 0;
  bool begun_ = false, end_ = false;
};

}  // namespace tqkv::cli
