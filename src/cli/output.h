// Standard output, where results go and every failed write is an error, and standard error, where everything else goes.
#pragma once
#include <string_view>

namespace tqkv::cli {

/// Thrown by print() when nobody reads standard output any more: the program ends with exit code 1 and says nothing.
struct ClosedPipe {};

/// Writes `text` to standard output at once. Throws Error(io), or ClosedPipe.
void print(std::string_view text);
/// Writes "tqkv: " + `line` + newline to standard error; failures are ignored.
void note(std::string_view line);
/// Writes `text` to standard error as it is; failures are ignored.
void print_error(std::string_view text);

bool output_is_terminal();
bool error_is_terminal();
/// Whether standard error takes colours: a terminal, and NO_COLOR is not set.
bool error_has_colour();

}  // namespace tqkv::cli
