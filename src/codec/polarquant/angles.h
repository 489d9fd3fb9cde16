// Codebooks of PolarQuant's angles (arXiv 2502.02617), recomputed by a test.
#pragma once
#include <array>

namespace tqkv::codec {

/// Level 1: 16 bins of [0, 2 pi); an angle decodes to the middle of its bin. Levels 2 to 4: Lloyd-Max centroids of the
/// density sin^(2^(level-1) - 1)(2 psi) on [0, pi/2], in radians.
inline constexpr int polar_bins = 16;
inline constexpr std::array<std::array<double, 4>, 3> polar_centroids{
    {{0.30976, 0.63398, 0.93682, 1.26104}, {0.42625, 0.67438, 0.89641, 1.14455}, {0.52421, 0.70591, 0.86489, 1.04658}}};

}  // namespace tqkv::codec
