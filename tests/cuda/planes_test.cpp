// Activations in planes, on the host.
#include "runtime/cuda/kernels/activation_planes.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <vector>

using namespace tqkv::cuda;

TEST_CASE("every channel has a byte of each plane of its own, in the chunk that a lane loads") {
  constexpr int in = 2048;
  std::set<int> bytes;
  for (int channel = 0; channel < in; ++channel) {
    const PlanePlace place = plane_place(channel);
    bytes.insert(place.high * 4 + place.byte);
    bytes.insert(place.low * 4 + place.byte);
    CHECK(place.high / chunk_stride == channel / chunk_channels);
    CHECK(place.high % chunk_stride < chunk_words);
    CHECK(place.low % chunk_stride < chunk_words);
  }
  CHECK(bytes.size() == 2 * in);
}

TEST_CASE("lanes next to each other read their words from different banks") {
  for (int first = 0; first < 32; first += 8) {  // 16 bytes a lane: eight lanes at a time
    std::set<int> banks;
    for (int lane = first; lane < first + 8; ++lane)
      for (int word = 0; word < 4; ++word) banks.insert((lane * chunk_stride + word) % 32);
    CHECK(banks.size() == 32);
  }
}

TEST_CASE("products of codes and planes are those of the numbers") {
  std::mt19937 random(21);
  std::normal_distribution<float> normal;
  constexpr int in = 256;
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<float> x(in);
    for (float& value : x) value = normal(random) * (trial % 2 ? 1.0f : 1e-4f);
    if (trial % 3 == 0) x[17] = 1000.0f;
    std::vector<std::uint32_t> codes(in / 8), planes(in / chunk_channels * chunk_stride);
    for (std::uint32_t& word : codes) word = static_cast<std::uint32_t>(random());
    double found = 0, expected = 0, bound = 0;
    for (int group = 0; group < in / weight_group; ++group) {
      float largest = 0;
      for (int i = 0; i < weight_group; ++i)
        largest = std::max(largest, std::abs(x[static_cast<std::size_t>(group * weight_group + i)]));
      const float step = plane_step(largest);
      std::int32_t high = 0, low = 0;
      for (int i = 0; i < weight_group; ++i) {
        const int channel = group * weight_group + i;
        const PlaneBytes bytes = plane_bytes(x[static_cast<std::size_t>(channel)], step);
        const PlanePlace place = plane_place(channel);
        planes[static_cast<std::size_t>(place.high)] |= (static_cast<std::uint32_t>(bytes.high) & 255u)
                                                        << (8 * place.byte);
        planes[static_cast<std::size_t>(place.low)] |= (static_cast<std::uint32_t>(bytes.low) & 255u)
                                                       << (8 * place.byte);
        const std::uint32_t code = codes[static_cast<std::size_t>(channel / 8)] >> (4 * (channel % 8)) & 15u;
        expected += static_cast<double>(code) * static_cast<double>(x[static_cast<std::size_t>(channel)]);
        bound += 0.51 * static_cast<double>(step) * code;
      }
      for (int word = 0; word < weight_group / 8; ++word) {
        const int channel = group * weight_group + word * 8;
        multiply_word(codes[static_cast<std::size_t>(channel / 8)], planes.data() + plane_place(channel).high, high,
                      low);
      }
      found += static_cast<double>(high * 256 + low) * static_cast<double>(step);
    }
    CHECK(std::abs(found - expected) <= bound + 1e-6 * std::abs(expected));
  }
}
