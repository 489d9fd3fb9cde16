// Viterbi's search for the path through a trellis whose levels are nearest to a vector.
#pragma once
#include <cstdint>
#include <span>

#include "codec/trellis/levels.h"

namespace tqkv::codec {

/// The path of least squared error for z [n], n <= max_dim: window [n] and choice [n]. It starts in state 0 and ends in
/// any; costs are f32, summed from channel 0 on; ties go to the lower window, then to the lower choice.
void viterbi(const TrellisTable& table, std::span<const float> z, std::span<std::uint8_t> window,
             std::span<std::uint8_t> choice);

}  // namespace tqkv::codec
