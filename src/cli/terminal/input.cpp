#include "cli/terminal/input.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/descriptor.h"
#include "base/file.h"
#include "base/numbers.h"
#include "base/text_encoding.h"
#include "base/utf8.h"
#include "cli/terminal/output.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

const std::string standard_input = "standard input";
constexpr std::size_t block = std::size_t{1} << 16;

/// Appends up to a block; false at the end.
bool read_block(int descriptor, const std::string& name, std::string& text) {
  if (text.size() > largest_input)
    throw Error(ErrorKind::io, fmt::format("{}: more than {} bytes without an end", name, largest_input));
  const std::size_t size = text.size();
  text.resize(size + block);
  const ssize_t count = read_some(descriptor, text.data() + size, block);
  const int failure = errno;
  text.resize(size + static_cast<std::size_t>(count > 0 ? count : 0));
  if (count < 0) throw Error(ErrorKind::io, fmt::format("{}: cannot be read: {}", name, std::strerror(failure)));
  return count > 0;
}

}  // namespace

std::string input_name(const std::string& path) {
  return path == "-" ? standard_input : path;
}

std::string read_input(const std::string& path, std::size_t limit) {
  std::string bytes;
  if (path == "-")
    while (read_block(STDIN_FILENO, standard_input, bytes)) continue;
  else
    bytes = read_text(path, limit);
  return without_byte_order_mark(std::move(bytes), input_name(path));
}

std::string valid_text(std::string text, const std::string& name, int line) {
  auto invalid = find_invalid_utf8(text);
  if (!invalid) return text;
  invalid->line += static_cast<std::size_t>(line - 1);
  note(fmt::format("warning: {}: {}: read as U+FFFD", name, invalid->text()));
  std::string valid;
  append_lossy(valid, text);
  return valid;
}

std::string read_text_input(const std::string& path) {
  return valid_text(read_input(path), input_name(path));
}

std::optional<std::string> read_piped_text() {
  struct stat status {};
  if (::fstat(STDIN_FILENO, &status) != 0) return std::nullopt;
  const bool stream = S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode);
  if (!stream && !S_ISREG(status.st_mode)) return std::nullopt;
  if ((::fcntl(STDIN_FILENO, F_GETFL) & O_ACCMODE) == O_WRONLY) return std::nullopt;
  if (stream && !wait_readable(STDIN_FILENO, piped_text_wait)) {
    note(fmt::format("standard input: an open {} with nothing in it for {} s: left out; --file - waits for its end",
                     S_ISSOCK(status.st_mode) ? "socket" : "pipe", piped_text_wait / 1000));
    return std::nullopt;
  }
  std::string text = read_text_input("-");
  if (text.empty()) return std::nullopt;
  note(fmt::format("standard input: {} bytes, in front of PROMPT", grouped(text.size())));
  return text;
}

std::string read_json_input(const std::string& path, std::size_t limit) {
  std::string text = read_input(path, limit);
  if (const auto invalid = find_invalid_utf8(text))
    throw Error(ErrorKind::input,
                fmt::format("{}: {}: JSON is UTF-8: save the file as such", input_name(path), invalid->text()));
  return text;
}

Lines::Lines(const std::string& path) {
  if (path.empty() || path == "-") {
    name_ = standard_input;
    descriptor_ = STDIN_FILENO;
    return;
  }
  name_ = path;
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw Error(ErrorKind::io, fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
}

Lines::~Lines() {
  if (descriptor_ > STDIN_FILENO) ::close(descriptor_);
}

/// Takes a byte order mark off; UTF-16 is converted as a whole.
void Lines::begin() {
  begun_ = true;
  do end_ = !read_block(descriptor_, name_, buffer_);
  while (!end_ && (begins_byte_order_mark(buffer_) || is_wide_encoding(buffer_)));
  buffer_ = without_byte_order_mark(std::move(buffer_), name_);
}

bool Lines::next(std::string& line) {
  if (!begun_) begin();
  std::size_t from = at_;
  while (true) {
    const std::size_t found = buffer_.find('\n', from);
    if (found != std::string::npos) {
      line.assign(buffer_, at_, found - at_);
      at_ = found + 1;
      break;
    }
    if (end_) {
      if (at_ == buffer_.size()) return false;
      line.assign(buffer_, at_);
      at_ = buffer_.size();
      break;
    }
    buffer_.erase(0, at_);
    at_ = 0;
    from = buffer_.size();
    end_ = !read_block(descriptor_, name_, buffer_);
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  ++number_;
  return true;
}

}  // namespace tqkv::cli
