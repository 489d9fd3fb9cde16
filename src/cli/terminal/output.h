// Standard output, where results go and every failed write is an error, and standard error, where everything else goes.
#pragma once
#include <exception>
#include <string_view>

namespace tqkv::cli {

/// Thrown by print() when nobody reads standard output any more: the program ends with exit code 1 and says nothing.
struct ClosedPipe {};

/// Writes `text` to standard output at once, on a terminal with its control characters escaped (base/printable.h):
/// whole characters. Throws Error(io), or ClosedPipe.
void print(std::string_view text);
/// Writes "tqkv: " + `line` + newline to standard error, control characters escaped; failures are ignored.
void note(std::string_view line);
/// Writes `text` to standard error, on a terminal with its control characters escaped; failures are ignored.
void print_error(std::string_view text);

// A line that is written over, where error_shows_status().
/// `line`, control characters escaped.
void show_status(std::string_view line);
void clear_status();
/// What standard error is to show from here on, where it has colours.
enum class Style { plain, dim };
void set_style(Style style);

/// Lets a run that still has something to save come to its end although standard output fails: the first failure is
/// kept, and nothing more is written.
class DeferredFailure {
 public:
  /// Without `deferred` a failure is thrown where it happens.
  explicit DeferredFailure(bool deferred) : deferred_(deferred) {}
  template <class Write>
  void guard(const Write& write) {
    if (failure_) return;
    if (!deferred_) return write();
    try {
      write();
    } catch (...) {
      failure_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  bool deferred_;
  std::exception_ptr failure_;
};

bool output_is_terminal();
bool error_is_terminal();
/// Whether standard error is a terminal that can go back in a line: TERM is set, and not dumb.
bool error_shows_status();
/// Whether standard error takes colours: such a terminal, and NO_COLOR is not set.
bool error_has_colour();

}  // namespace tqkv::cli
