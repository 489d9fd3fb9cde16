// MemoryWatch: asks a guard whether the machine has room for the next step of a session.
#pragma once
#include <chrono>
#include <cstdint>
#include <utility>

#include "tqkv/engine.h"

namespace tqkv {

class MemoryWatch {
 public:
  explicit MemoryWatch(MemoryGuard guard) : guard_(std::move(guard)) {}

  /// Whether to look even before a step that takes nothing: others take memory too. True ten times a second at most.
  bool due() const;
  /// Throws Error(memory) when `need` bytes more would leave less than the guard keeps free. `position`, `tokens`: what
  /// the session holds and what the step adds, for the message.
  void require(std::uint64_t need, int position, int tokens);

 private:
  using Clock = std::chrono::steady_clock;
  MemoryGuard guard_;
  Clock::time_point next_look_{};
};

}  // namespace tqkv
