// Runs the lanes of an emulated kernel, group by group: as coroutines of one thread in an order that a seed varies, or
// each as a thread, for the thread sanitizer. Needs no MLX, so that a sanitized program of its own can have it.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "host.h"

namespace tqkv::test::emulator {

const Host& host();

struct Launch {
  LaneFunction* lane = nullptr;
  std::vector<void*> buffers;
  std::array<int, 3> grid{1, 1, 1}, group{1, 1, 1};  ///< threads
  std::uint64_t seed = 0;
};

/// Throws std::runtime_error where lanes that must meet do not: it names where each of them is.
void run_coroutines(const Launch& launch);
/// Does not notice lanes that do not meet: it waits for ever.
void run_threads(const Launch& launch);

}  // namespace tqkv::test::emulator
