// Compiled without fused multiply-adds: the kernels have the same costs to the bit.
#include "codec/trellis/viterbi.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <limits>

#include "codec/side_codec.h"

namespace tqkv::codec {
namespace {

using Costs = std::array<float, most_trellis_states>;

template <int choices>
float squared_distance(const float* level, float z) {
  float least = std::abs(z - level[0]);
  for (int k = 1; k < choices; ++k) least = std::min(least, std::abs(z - level[k]));
  return least * least;
}

// One channel: bit t of the result says that state t was reached from the upper half of the states, by window
// t + states.
template <int choices>
std::uint32_t advance(const TrellisTable& table, float z, const Costs& cost, Costs& next) {
  const int states = table.states, half = states / 2;
  std::uint32_t upper = 0;
  for (int to = 0; to < states; ++to) {
    const int from = to / 2, upper_from = from + half;
    const float low = cost[static_cast<std::size_t>(from)] + squared_distance<choices>(table.level + to * choices, z);
    const float high = cost[static_cast<std::size_t>(upper_from)] +
                       squared_distance<choices>(table.level + (to + states) * choices, z);
    upper |= static_cast<std::uint32_t>(high < low) << to;
    next[static_cast<std::size_t>(to)] = high < low ? high : low;
  }
  return upper;
}

template <int choices>
int forward(const TrellisTable& table, std::span<const float> z, std::span<std::uint32_t> upper) {
  Costs cost, next;
  cost.fill(std::numeric_limits<float>::infinity());
  cost[0] = 0.0f;
  for (std::size_t c = 0; c < z.size(); ++c) {
    upper[c] = advance<choices>(table, z[c], cost, next);
    std::swap(cost, next);
  }
  return static_cast<int>(std::min_element(cost.begin(), cost.begin() + table.states) - cost.begin());
}

}  // namespace

void viterbi(const TrellisTable& table, std::span<const float> z, std::span<std::uint8_t> window,
             std::span<std::uint8_t> choice) {
  assert(z.size() <= max_dim && window.size() == z.size() && choice.size() == z.size());
  std::array<std::uint32_t, max_dim> upper;
  const std::span<std::uint32_t> decisions{upper.data(), z.size()};
  int state = table.choices == 2   ? forward<2>(table, z, decisions)
              : table.choices == 4 ? forward<4>(table, z, decisions)
              : table.choices == 8 ? forward<8>(table, z, decisions)
                                   : forward<16>(table, z, decisions);
  for (std::size_t c = z.size(); c-- > 0;) {
    const int w = state + (static_cast<int>(upper[c] >> state & 1u) << table.memory);
    const float* threshold = table.threshold + w * most_trellis_choices;
    int k = 0;
    while (k + 1 < table.choices && z[c] > threshold[k]) ++k;
    window[c] = static_cast<std::uint8_t>(w);
    choice[c] = static_cast<std::uint8_t>(k);
    state = w / 2;
  }
}

}  // namespace tqkv::codec
