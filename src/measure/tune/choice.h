// Bits for the sides of layers under a budget, from what each costs alone.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "measure/tune/tune.h"

namespace tqkv::measure {

/// Index of the point of each side. Greedy: from the fewest bits on, the step that takes away most KL per byte, as long
/// as one fits into `bytes` (per token, all sides); a step to more bits that does not lower KL is never taken. Without
/// a budget that fits the fewest bits: nothing.
std::optional<std::vector<int>> choose_bits(const std::vector<TuneSide>& sides, std::uint64_t bytes);

double sum_of_kl(const std::vector<TuneSide>& sides, const std::vector<int>& points);
std::uint64_t sum_of_bytes(const std::vector<TuneSide>& sides, const std::vector<int>& points);

}  // namespace tqkv::measure
