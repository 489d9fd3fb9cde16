#include "codec/codebook.h"

#include <array>
#include <cstddef>
#include <string>

#include "tqkv/error.h"

namespace tqkv::codec {
namespace {

// Positive halves, printed by tools/codebooks. Distortion 0.363380, 0.117482, 0.034548, 0.009501, 0.002505.
constexpr float half_1[] = {0.797884561f};
constexpr float half_2[] = {0.452780035f, 1.510417608f};
constexpr float half_3[] = {0.245094179f, 0.756005281f, 1.343909279f, 2.151945705f};
constexpr float half_4[] = {0.128395030f, 0.388048299f, 0.656759119f, 0.942340456f,
                            1.256231197f, 1.618046386f, 2.069017227f, 2.732589571f};
constexpr float half_5[] = {0.065889660f, 0.198051830f, 0.331378306f, 0.466699523f, 0.604933624f, 0.747135704f,
                            0.894565117f, 1.048783320f, 1.211804381f, 1.386340340f, 1.576228079f, 1.787233218f,
                            2.028728399f, 2.317739404f, 2.691119577f, 3.260732493f};

template <std::size_t N>
constexpr std::array<float, 2 * N> mirror(const float (&positive)[N]) {
  std::array<float, 2 * N> all{};
  for (std::size_t i = 0; i < N; ++i) {
    all[N + i] = positive[i];
    all[N - 1 - i] = -positive[i];
  }
  return all;
}

template <std::size_t N>
constexpr std::array<float, N - 1> midpoints(const std::array<float, N>& centroid) {
  std::array<float, N - 1> middle{};
  for (std::size_t i = 0; i + 1 < N; ++i)
    middle[i] = static_cast<float>(0.5 * (static_cast<double>(centroid[i]) + static_cast<double>(centroid[i + 1])));
  return middle;
}

constexpr auto centroids_1 = mirror(half_1);
constexpr auto centroids_2 = mirror(half_2);
constexpr auto centroids_3 = mirror(half_3);
constexpr auto centroids_4 = mirror(half_4);
constexpr auto centroids_5 = mirror(half_5);
constexpr auto thresholds_1 = midpoints(centroids_1);
constexpr auto thresholds_2 = midpoints(centroids_2);
constexpr auto thresholds_3 = midpoints(centroids_3);
constexpr auto thresholds_4 = midpoints(centroids_4);
constexpr auto thresholds_5 = midpoints(centroids_5);

[[noreturn]] void no_table(int bits) {
  throw Error(ErrorKind::internal, "codebook: there is no table of " + std::to_string(bits) + " bits, only of 1 to 5");
}

}  // namespace

std::span<const float> centroids(int bits) {
  switch (bits) {
    case 1:
      return centroids_1;
    case 2:
      return centroids_2;
    case 3:
      return centroids_3;
    case 4:
      return centroids_4;
    case 5:
      return centroids_5;
    default:
      no_table(bits);
  }
}

std::span<const float> thresholds(int bits) {
  switch (bits) {
    case 1:
      return thresholds_1;
    case 2:
      return thresholds_2;
    case 3:
      return thresholds_3;
    case 4:
      return thresholds_4;
    case 5:
      return thresholds_5;
    default:
      no_table(bits);
  }
}

}  // namespace tqkv::codec
