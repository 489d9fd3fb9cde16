// PolarQuant (arXiv 2502.02617) with four levels: a block of 16 channels of the rotated vector as one f16 radius and
// 8, 4, 2 and 1 angles of 4, 2, 2 and 2 bits. Level 1 pairs neighbours, theta = atan2(second, first) and the radius
// hypot; each further level pairs the radii, psi = atan(second / first). Codes: the angles of level 1 of all blocks,
// then those of level 2, 3 and 4, packed as planes; scalars: the radii.
#include <array>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "codec/method.h"
#include "codec/packing.h"
#include "codec/polarquant/angles.h"

namespace tqkv::codec {
namespace {

constexpr std::size_t block = 16;
constexpr std::array<int, 4> level_bits{4, 2, 2, 2};

void plan(SideCodec& codec) {
  require_rotation(codec);
  if (codec.dim < 64) refuse_dim(codec, "64 or more, for whole bytes of angles");
  const auto d = static_cast<std::size_t>(codec.dim);
  codec.code_bytes = d / block * 46 / 8;
  codec.scalar_bytes = d / block * sizeof(std::uint16_t);
}

std::uint8_t bin_of(double theta) {
  const double turn = theta / (2.0 * std::numbers::pi);  // -1/2 to 1/2
  const auto bin = static_cast<int>(std::floor((turn < 0.0 ? turn + 1.0 : turn) * polar_bins));
  return static_cast<std::uint8_t>(bin % polar_bins);
}

std::uint8_t nearest(const std::array<double, 4>& centroid, double psi) {
  std::uint8_t index = 0;
  for (std::size_t i = 0; i + 1 < centroid.size(); ++i)
    index = static_cast<std::uint8_t>(index + (psi > 0.5 * (centroid[i] + centroid[i + 1]) ? 1 : 0));
  return index;
}

void encode_vector(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  std::array<double, max_dim> radius;
  for (std::size_t i = 0; i < y.size(); ++i) radius[i] = static_cast<double>(y[i]);
  std::size_t count = y.size();
  for (std::size_t level = 0; level < 4; ++level) {
    std::array<std::uint8_t, max_dim> index;
    count /= 2;
    for (std::size_t i = 0; i < count; ++i) {
      const double first = radius[2 * i], second = radius[2 * i + 1];
      const double angle = std::atan2(second, first);
      index[i] = level == 0 ? bin_of(angle) : nearest(polar_centroids[level - 1], angle);
      radius[i] = std::hypot(first, second);
    }
    pack(level_bits[level], {index.data(), count}, codes);
    codes += packed_bytes(level_bits[level], static_cast<int>(count));
  }
  for (std::size_t i = 0; i < count; ++i) store_f16(scalars + 2 * i, radius[i]);
  static_cast<void>(codec);
}

void decode_vector(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> y) {
  const auto d = static_cast<std::size_t>(codec.dim);
  std::array<std::array<std::uint8_t, max_dim / 2>, 4> index;
  std::size_t count = d;
  for (std::size_t level = 0; level < 4; ++level) {
    count /= 2;
    unpack(level_bits[level], codes, {index[level].data(), count});
    codes += packed_bytes(level_bits[level], static_cast<int>(count));
  }
  for (std::size_t i = 0; i < count; ++i) y[i] = load_f16(scalars + 2 * i);
  for (std::size_t level = 4; level-- > 0; count *= 2) {
    for (std::size_t i = count; i-- > 0;) {  // from behind: a radius makes room for its pair
      const double angle = level == 0 ? (index[0][i] + 0.5) * (2.0 * std::numbers::pi / polar_bins)
                                      : polar_centroids[level - 1][index[level][i]];
      const float r = y[i];
      y[2 * i] = r * static_cast<float>(std::cos(angle));
      y[2 * i + 1] = r * static_cast<float>(std::sin(angle));
    }
  }
}

std::string describe(const SideFormat&) {
  return "polar, angles of 4, 2, 2 and 2 bit in blocks of 16";
}

}  // namespace

const Method polar{SideFormat::Kind::polar, plan, encode_vector, decode_vector, describe};

}  // namespace tqkv::codec
