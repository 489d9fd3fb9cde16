// Signals that end the program, and Ctrl-C as a request to end at the next good place.
#pragma once
#include <atomic>
#include <csignal>

namespace tqkv::cli {

inline constexpr int interrupted_exit_code = 130;

/// From here on SIGINT, SIGTERM and SIGHUP end the program at once, wherever it is: temporary files are removed, the
/// terminal is as it was, and the parent sees the signal. As process 1 of a container, which the system does not end by
/// a signal, the program exits with 128 + signal. A signal that is ignored at the start stays ignored.
/// A file that grows past its limit (SIGXFSZ) is a failed write, and so is a pipe without a reader (SIGPIPE).
void end_on_signals();

/// What is written to the terminal first when a signal ends the program: takes back a mode that it is in. The text must
/// outlive its use; nullptr: nothing.
void set_terminal_reset(const char* sequence);

/// What the first SIGINT writes to standard error while the program cannot end at once; nullptr: nothing. The text must
/// outlive its use.
void set_stop_notice(const char* text);

/// Whether SIGINT came since an Interrupt began or this was asked, in any thread.
bool take_interrupt();

/// While one lives, the first SIGINT sets the flag and a second one ends the program, or does nothing more.
/// One within another's life takes over and gives back; the flag is common to all.
class Interrupt {
 public:
  enum class Second { kills, is_ignored };
  explicit Interrupt(Second second = Second::kills);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  const std::atomic<bool>* flag() const;
  bool requested() const { return flag()->load(); }

 private:
  struct sigaction before_ {};
};

}  // namespace tqkv::cli
