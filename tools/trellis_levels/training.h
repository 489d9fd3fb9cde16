// Training of the trellis levels (src/codec/trellis): Ungerboeck's sets of Lloyd-Max points to begin with, then rounds
// of Viterbi encoding of fresh Gaussian vectors and centroids, for each window on its own.
#pragma once
#include <cstdint>
#include <vector>

#include "codec/trellis/levels.h"

namespace tqkv::tools {

inline constexpr int training_dim = 256;

/// Vectors of `training_dim` normal numbers, scaled to the norm sqrt(training_dim); the same for any number of threads.
struct Vectors {
  std::uint64_t seed = 1;
  int count = 6000;
  int threads = 1;
};

/// What encoding of vectors says of a table.
struct Encoded {
  double distortion = 0;       // mean squared error of a channel: that of a unit vector with its exact norm as scalar
  std::vector<double> mean;    // [window, choice]: of the values that took the level; the level where none did
  std::vector<double> count;   // [window, choice]
  std::vector<double> spread;  // [window, choice]: standard deviation of these values
};
Encoded encode_vectors(const codec::TrellisTable& table, const Vectors& vectors);

/// The 2^(bits+1) Lloyd-Max points of N(0,1), every fourth of them to a window: [2 states, 2^(bits-1)].
std::vector<float> first_levels(int bits, int states);

/// One round: level += relaxation * (mean - level), ascending in each window. Returns the distortion before it.
double train_round(int bits, int states, const Vectors& vectors, double relaxation, std::vector<float>& levels);

/// Levels in 8 bits: level ≈ code * step, the step that makes the error least, each level weighted by its count.
struct Rounded {
  float step = 0;
  std::vector<std::int8_t> codes;
};
Rounded round_levels(const std::vector<float>& levels, const std::vector<double>& count);

}  // namespace tqkv::tools
