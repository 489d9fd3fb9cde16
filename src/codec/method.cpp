#include "codec/method.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

#include <fmt/format.h>

#include "base/float16.h"
#include "codec/codebook.h"
#include "codec/packing.h"
#include "codec/rotation.h"
#include "tqkv/error.h"

namespace tqkv::codec {
namespace {

// The registration: one entry a kind of side.
constexpr std::array<const Method*, 10> all{&plain,   &affine, &rotated_affine, &turboquant, &split,
                                            &trellis, &prod,   &signs,          &polar,      &sketch};

}  // namespace

const Method& method(SideFormat::Kind kind) {
  for (const Method* one : all) {
    if (one->kind == kind) return *one;
  }
  throw Error(ErrorKind::internal, "codec: a kind of format that does not exist");
}

void refuse(const SideCodec& codec, std::string_view why) {
  throw Error(ErrorKind::format, fmt::format("{}: {}", codec.format.describe(), why));
}

void refuse_dim(const SideCodec& codec, std::string_view expected) {
  refuse(codec, fmt::format("the vectors have {} channels, expected {}: choose another format", codec.dim, expected));
}

void refuse_bits(const SideCodec& codec, std::string_view expected) {
  refuse(codec, fmt::format("{} bits were asked for, there are {}", codec.format.bits, expected));
}

void require_rotation(const SideCodec& codec) {
  if (!can_rotate(codec.dim)) refuse_dim(codec, "a power of two from 16 to 1024, for the rotation");
}

double norm_of(std::span<const float> x) {
  double squares = 0.0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}

void store_f16(std::byte* to, double value) {
  constexpr double largest_f16 = 65504.0;
  store(to, f32_to_f16(static_cast<float>(std::min(value, largest_f16))));
}

float load_f16(const std::byte* from) {
  return f16_to_f32(load<std::uint16_t>(from));
}

double stored_scalar(KvScalar scalar, double n, double cosine, double square) {
  switch (scalar) {
    case KvScalar::norm:
      return n;
    case KvScalar::corrected:
      return n / std::sqrt(square);
    case KvScalar::unbiased:
      return n / cosine;
    case KvScalar::best:
      return n * cosine / square;
  }
  return n;
}

LloydMax lloyd_max(int bits, std::span<const float> y, double norm, std::span<std::uint8_t> index) {
  const std::span<const float> centroid = centroids(bits);
  const std::span<const float> threshold = thresholds(bits);
  // A zero vector takes the index of 0 in every channel.
  const double to_normal = norm > 0.0 ? std::sqrt(static_cast<double>(y.size())) / norm : 0.0;
  LloydMax sums;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double z = static_cast<double>(y[i]) * to_normal;
    std::uint8_t count = 0;
    for (const float t : threshold) count = static_cast<std::uint8_t>(count + (z > static_cast<double>(t) ? 1 : 0));
    index[i] = count;
    const auto c = static_cast<double>(centroid[count]);
    sums.products += z * c;
    sums.squares += c * c;
  }
  return sums;
}

void pack_signs(const SideCodec& codec, std::span<const float> r, std::byte* codes) {
  assert(codec.matrix && codec.matrix->rows() == codec.signs && codec.matrix->dim() == codec.dim);
  std::array<float, max_dim> products;
  std::array<std::uint8_t, max_dim> index;
  const auto rows = static_cast<std::size_t>(codec.signs);
  codec.matrix->multiply(r, {products.data(), rows});
  for (std::size_t i = 0; i < rows; ++i) index[i] = products[i] >= 0.0f ? 1 : 0;
  pack(1, {index.data(), rows}, codes);
}

void unpack_signs(const SideCodec& codec, const std::byte* codes, float norm, std::span<float> out) {
  assert(codec.matrix && out.size() == static_cast<std::size_t>(codec.signs));
  std::array<std::uint8_t, max_dim> index;
  unpack(1, codes, {index.data(), out.size()});
  const float size = norm * codec.matrix->factor();
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = index[i] ? size : -size;
}

}  // namespace tqkv::codec
