#include "codec/side_codec.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <limits>

#include <fmt/format.h>

#include "base/float16.h"
#include "codec/codebook.h"
#include "codec/packing.h"
#include "codec/rotation.h"
#include "tqkv/error.h"

namespace tqkv::codec {
namespace {

constexpr float largest_f16 = 65504.0f;

[[noreturn]] void refuse(const SideFormat& format, int dim, std::string_view expected) {
  throw Error(ErrorKind::format, fmt::format("{}: the vectors have {} channels, expected {}: choose another format",
                                             format.describe(), dim, expected));
}

[[noreturn]] void refuse_bits(const SideFormat& format, std::string_view expected) {
  throw Error(ErrorKind::format,
              fmt::format("{}: {} bits were asked for, there are {}", format.describe(), format.bits, expected));
}

// MLX's affine quantization of one group (mlx/backend/cpu/quantized.cpp), step by step in f32: the edge of larger
// magnitude is represented exactly, and the codes come from scale and bias before these are rounded.
void encode_affine_group(std::span<const float> x, int bits, std::uint8_t* index, std::uint16_t& scale16,
                         std::uint16_t& bias16) {
  const auto bins = static_cast<float>((1 << bits) - 1);
  float smallest = std::numeric_limits<float>::infinity();
  float largest = -smallest;
  for (const float value : x) {
    largest = std::max(largest, value);
    smallest = std::min(smallest, value);
  }
  const bool low_edge = std::abs(smallest) > std::abs(largest);
  float scale = std::max((largest - smallest) / bins, 1e-7f);
  if (!low_edge) scale = -scale;
  const float edge = low_edge ? smallest : largest;
  const float edge_code = std::rint(edge / scale);
  float bias = 0.0f;
  if (edge_code != 0.0f) {
    scale = edge / edge_code;
    bias = edge;
  }
  for (const float value : x)
    *index++ = static_cast<std::uint8_t>(std::min(std::max(0.0f, std::rint((value - bias) / scale)), bins));
  scale16 = f32_to_bf16(scale);
  bias16 = f32_to_bf16(bias);
}

void encode_affine(const SideCodec& codec, std::span<const float> x, std::byte* codes, std::byte* scalars) {
  const auto group = static_cast<std::size_t>(codec.format.group);
  const std::size_t groups = x.size() / group;
  const bool as_bf16 = codec.format.kind == SideFormat::Kind::affine;
  std::array<float, max_dim> values;
  std::array<std::uint8_t, max_dim> index;
  for (std::size_t i = 0; i < x.size(); ++i) values[i] = as_bf16 ? bf16_to_f32(f32_to_bf16(x[i])) : x[i];
  for (std::size_t g = 0; g < groups; ++g) {
    std::uint16_t scale = 0, bias = 0;
    encode_affine_group({values.data() + g * group, group}, codec.format.bits, index.data() + g * group, scale, bias);
    store(scalars + 2 * g, scale);
    store(scalars + 2 * (groups + g), bias);
  }
  pack(codec.format.bits, {index.data(), x.size()}, codes);
}

void decode_affine(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> x) {
  const auto group = static_cast<std::size_t>(codec.format.group);
  const std::size_t groups = x.size() / group;
  std::array<std::uint8_t, max_dim> index;
  unpack(codec.format.bits, codes, {index.data(), x.size()});
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float scale = bf16_to_f32(load<std::uint16_t>(scalars + 2 * (i / group)));
    const float bias = bf16_to_f32(load<std::uint16_t>(scalars + 2 * (groups + i / group)));
    x[i] = scale * static_cast<float>(index[i]) + bias;
  }
}

// The stored number for n = ‖y‖, cosine = ⟨u,ũ⟩ and square = ‖ũ‖².
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

void encode_turboquant(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  const std::span<const float> centroid = centroids(codec.format.bits);
  const std::span<const float> threshold = thresholds(codec.format.bits);
  double squares = 0.0;  // double: the square of the smallest f32 is still a normal number
  for (const float value : y) squares += static_cast<double>(value) * static_cast<double>(value);
  const double n = std::sqrt(squares);
  const double root = std::sqrt(static_cast<double>(y.size()));
  const double to_normal = n > 0.0 ? root / n : 0.0;  // a zero vector takes the index of 0 in every channel

  std::array<std::uint8_t, max_dim> index;
  double products = 0.0, centroid_squares = 0.0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double z = static_cast<double>(y[i]) * to_normal;
    std::uint8_t count = 0;
    for (const float t : threshold) count = static_cast<std::uint8_t>(count + (z > static_cast<double>(t) ? 1 : 0));
    index[i] = count;
    const auto c = static_cast<double>(centroid[count]);
    products += z * c;
    centroid_squares += c * c;
  }
  pack(codec.format.bits, {index.data(), y.size()}, codes);

  const double d = root * root;
  const double scalar = n > 0.0 ? stored_scalar(codec.format.scalar, n, products / d, centroid_squares / d) : 0.0;
  store(scalars, f32_to_f16(static_cast<float>(std::min(scalar, static_cast<double>(largest_f16)))));
}

void decode_turboquant(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> y) {
  const std::span<const float> centroid = centroids(codec.format.bits);
  std::array<std::uint8_t, max_dim> index;
  unpack(codec.format.bits, codes, {index.data(), y.size()});
  const float factor = f16_to_f32(load<std::uint16_t>(scalars)) / std::sqrt(static_cast<float>(y.size()));
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = centroid[index[i]] * factor;
}

}  // namespace

SideCodec side_codec(const SideFormat& format, int dim) {
  if (dim <= 0 || dim > max_dim) refuse(format, dim, fmt::format("1 to {}", max_dim));
  SideCodec codec;
  codec.format = format;
  codec.dim = dim;
  const auto channels = static_cast<std::size_t>(dim);
  if (format.rotated() && !can_rotate(dim)) refuse(format, dim, "a power of two from 16 to 1024, for the rotation");
  switch (format.kind) {
    case SideFormat::Kind::plain:
      if (format.bits != 16 && format.bits != 32) refuse_bits(format, "16 and 32");
      codec.code_bytes = channels * static_cast<std::size_t>(format.bits) / 8;
      return codec;
    case SideFormat::Kind::affine:
    case SideFormat::Kind::rotated_affine:
      if (format.bits != 4 && format.bits != 8) refuse_bits(format, "4 and 8");
      if (format.group <= 0 || format.group % 8 != 0 || dim % format.group != 0)
        refuse(format, dim, fmt::format("a multiple of its group of {}", format.group));
      codec.code_bytes = packed_bytes(format.bits, dim);
      codec.scalar_bytes = channels / static_cast<std::size_t>(format.group) * 2 * sizeof(std::uint16_t);
      return codec;
    case SideFormat::Kind::turboquant:
      if (format.bits < 2 || format.bits > 5) refuse_bits(format, "2 to 5");
      codec.code_bytes = packed_bytes(format.bits, dim);
      codec.scalar_bytes = sizeof(std::uint16_t);
      return codec;
  }
  throw Error(ErrorKind::internal, "side_codec: a kind of format that does not exist");
}

void encode(const SideCodec& codec, std::span<const float> x, std::byte* codes, std::byte* scalars) {
  assert(x.size() == static_cast<std::size_t>(codec.dim));
  switch (codec.format.kind) {
    case SideFormat::Kind::plain:
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (codec.format.bits == 16)
          store(codes + 2 * i, f32_to_bf16(x[i]));
        else
          store(codes + 4 * i, x[i]);
      }
      return;
    case SideFormat::Kind::affine:
    case SideFormat::Kind::rotated_affine:
      return encode_affine(codec, x, codes, scalars);
    case SideFormat::Kind::turboquant:
      return encode_turboquant(codec, x, codes, scalars);
  }
}

void decode(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> x) {
  assert(x.size() == static_cast<std::size_t>(codec.dim));
  switch (codec.format.kind) {
    case SideFormat::Kind::plain:
      for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = codec.format.bits == 16 ? bf16_to_f32(load<std::uint16_t>(codes + 2 * i)) : load<float>(codes + 4 * i);
      return;
    case SideFormat::Kind::affine:
    case SideFormat::Kind::rotated_affine:
      return decode_affine(codec, codes, scalars, x);
    case SideFormat::Kind::turboquant:
      return decode_turboquant(codec, codes, scalars, x);
  }
}

}  // namespace tqkv::codec
