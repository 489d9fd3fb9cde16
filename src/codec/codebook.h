// Lloyd-Max codebooks of N(0,1) for 1 to 5 bits (docs/formats.md gives the tables; tools/codebooks recomputes them).
#pragma once
#include <span>

namespace tqkv::codec {

/// All 2^bits centroids in ascending order. A unit vector of d channels uses centroid / sqrt(d).
std::span<const float> centroids(int bits);
/// The 2^bits - 1 midpoints between neighbours. Index = number of thresholds that are below the value (value > t).
std::span<const float> thresholds(int bits);

}  // namespace tqkv::codec
