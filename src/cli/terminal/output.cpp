#include "cli/terminal/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/descriptor.h"
#include "base/printable.h"
#include "tqkv/error.h"

namespace tqkv::cli {

void print(std::string_view text) {
  const int failure = output_is_terminal() ? write_all(STDOUT_FILENO, printable(text, Keep::lines_and_tabs))
                                           : write_all(STDOUT_FILENO, text);
  if (failure == EPIPE) throw ClosedPipe{};
  if (failure != 0)
    throw Error(ErrorKind::io, fmt::format("standard output: cannot be written: {}", std::strerror(failure)));
}

void note(std::string_view line) {
  print_error(fmt::format("tqkv: {}\n", printable(line, Keep::nothing)));
}

void print_error(std::string_view text) {
  static_cast<void>(error_is_terminal() ? write_all(STDERR_FILENO, printable(text, Keep::lines_and_tabs))
                                        : write_all(STDERR_FILENO, text));
}

void show_status(std::string_view line) {
  if (error_shows_status()) write_all(STDERR_FILENO, fmt::format("\r{}\033[K", printable(line, Keep::nothing)));
}

void clear_status() {
  if (error_shows_status()) write_all(STDERR_FILENO, "\r\033[K");
}

void set_style(Style style) {
  if (error_has_colour()) write_all(STDERR_FILENO, style == Style::dim ? "\033[2m" : "\033[0m");
}

bool output_is_terminal() {
  return ::isatty(STDOUT_FILENO) == 1;
}

bool error_is_terminal() {
  return ::isatty(STDERR_FILENO) == 1;
}

bool error_shows_status() {
  const char* term = std::getenv("TERM");
  return error_is_terminal() && term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

bool error_has_colour() {
  const char* no_color = std::getenv("NO_COLOR");
  return error_shows_status() && (no_color == nullptr || *no_color == '\0');
}

}  // namespace tqkv::cli
