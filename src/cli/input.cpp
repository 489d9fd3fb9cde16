#include "input.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

constexpr std::size_t block = std::size_t{1} << 16;
constexpr std::size_t largest_input = std::size_t{1} << 30;

/// Appends up to a block; false at the end.
bool read_block(int descriptor, const std::string& name, std::string& text) {
  if (text.size() > largest_input)
    throw Error(ErrorKind::io, fmt::format("{}: more than {} bytes without an end", name, largest_input));
  const std::size_t size = text.size();
  text.resize(size + block);
  ssize_t count = 0;
  do count = ::read(descriptor, text.data() + size, block);
  while (count < 0 && errno == EINTR);
  const int failure = errno;
  text.resize(size + static_cast<std::size_t>(count > 0 ? count : 0));
  if (count < 0) throw Error(ErrorKind::io, fmt::format("{}: cannot be read: {}", name, std::strerror(failure)));
  return count > 0;
}

}  // namespace

std::string read_input(const std::string& path) {
  if (path != "-") return read_text(path);
  std::string text;
  while (read_block(STDIN_FILENO, "standard input", text)) continue;
  return text;
}

Lines::Lines(const std::string& path) {
  if (path.empty() || path == "-") {
    name_ = "standard input";
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

bool Lines::next(std::string& line) {
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
