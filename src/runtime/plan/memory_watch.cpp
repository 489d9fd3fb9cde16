#include "runtime/plan/memory_watch.h"

#include <fmt/format.h>

#include "base/numbers.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

// A look reads a handful of files of the system, about 0.1 ms.
constexpr std::chrono::milliseconds between_looks{100};

}  // namespace

bool MemoryWatch::due() const {
  return guard_.available && Clock::now() >= next_look_;
}

void MemoryWatch::require(std::uint64_t need, int position, int tokens) {
  if (!guard_.available) return;
  const std::uint64_t available = guard_.available();
  next_look_ = Clock::now() + between_looks;
  if (available == 0 || (available > guard_.keep_free && available - guard_.keep_free >= need)) return;
  throw Error(
      ErrorKind::memory,
      fmt::format("stopped after {} tokens, before the system ends the program: {} of memory are free, of which "
                  "{} stay free, and the next {} {}; close other programs or ask for a shorter --context",
                  grouped(static_cast<std::uint64_t>(position)), short_bytes(static_cast<double>(available)),
                  short_bytes(static_cast<double>(guard_.keep_free)),
                  tokens == 1 ? "token" : fmt::format("{} tokens", grouped(static_cast<std::uint64_t>(tokens))),
                  tokens == 1 ? fmt::format("needs {}", short_bytes(static_cast<double>(need)))
                              : fmt::format("need {}", short_bytes(static_cast<double>(need)))));
}

}  // namespace tqkv
