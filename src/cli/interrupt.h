// Ctrl-C as a request to end at the next good place.
#pragma once
#include <atomic>
#include <csignal>

namespace tqkv::cli {

inline constexpr int interrupted_exit_code = 130;

/// While one lives, the first SIGINT sets the flag and a second one kills the program as usual, or does nothing more.
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
