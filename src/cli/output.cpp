#include "output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

/// Returns 0 or errno.
int write_all(int stream, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(stream, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return 0;
}

}  // namespace

void print(std::string_view text) {
  const int failure = write_all(STDOUT_FILENO, text);
  if (failure == EPIPE) throw ClosedPipe{};
  if (failure != 0)
    throw Error(ErrorKind::io, fmt::format("standard output: cannot be written: {}", std::strerror(failure)));
}

void note(std::string_view line) {
  print_error(fmt::format("tqkv: {}\n", line));
}

void print_error(std::string_view text) {
  static_cast<void>(write_all(STDERR_FILENO, text));
}

bool output_is_terminal() {
  return ::isatty(STDOUT_FILENO) == 1;
}

bool error_is_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

bool error_has_colour() {
  const char* no_color = std::getenv("NO_COLOR");
  return error_is_terminal() && (no_color == nullptr || *no_color == '\0');
}

}  // namespace tqkv::cli
