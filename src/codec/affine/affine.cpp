// MLX's affine quantization (mlx/backend/cpu/quantized.cpp), of the vector itself or of its rotation. Codes are one
// stream of bits, as MLX packs them; scalars: bf16 scale of every group, then bf16 bias of every group.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/float16.h"
#include "codec/method.h"
#include "codec/packing.h"

namespace tqkv::codec {
namespace {

// One group, step by step in f32: the edge of larger magnitude is represented exactly, and the codes come from scale
// and bias before these are rounded.
void encode_group(std::span<const float> x, int bits, std::uint8_t* index, std::uint16_t& scale16,
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

void plan(SideCodec& codec) {
  if (codec.format.kind == SideFormat::Kind::rotated_affine) require_rotation(codec);
  check_affine(codec);
  codec.code_bytes = packed_bytes(codec.format.bits, codec.dim);
  codec.scalar_bytes = affine_scalar_bytes(codec.format.group, codec.dim);
}

void encode_bf16(const SideCodec& codec, std::span<const float> x, std::byte* codes, std::byte* scalars) {
  std::array<float, max_dim> values;
  for (std::size_t i = 0; i < x.size(); ++i) values[i] = bf16_to_f32(f32_to_bf16(x[i]));
  encode_affine(codec.format.bits, codec.format.group, {values.data(), x.size()}, codes, scalars);
}

void encode_f32(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  encode_affine(codec.format.bits, codec.format.group, y, codes, scalars);
}

void decode_values(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> x) {
  decode_affine(codec.format.bits, codec.format.group, codes, scalars, x);
}

std::string describe(const SideFormat& format) {
  return fmt::format("affine {} bit, group {}", format.bits, format.group);
}
std::string describe_rotated(const SideFormat& format) {
  return "rotated " + describe(format);
}

}  // namespace

void check_affine(const SideCodec& codec) {
  const int bits = codec.format.bits, group = codec.format.group;
  if (bits < 2 || bits > 8 || bits == 7) refuse_bits(codec, "2, 3, 4, 5, 6 and 8");
  if (group != 32 && group != 64 && group != 128)
    refuse(codec, fmt::format("a group of {} was asked for, there are 32, 64 and 128", group));
  if (codec.dim % group != 0) refuse_dim(codec, fmt::format("a multiple of its group of {}", group));
}

std::size_t affine_scalar_bytes(int group, int dim) {
  return static_cast<std::size_t>(dim / group) * 2 * sizeof(std::uint16_t);
}

void encode_affine(int bits, int group, std::span<const float> x, std::byte* codes, std::byte* scalars) {
  const auto size = static_cast<std::size_t>(group);
  const std::size_t groups = x.size() / size;
  std::array<std::uint8_t, max_dim> index;
  for (std::size_t g = 0; g < groups; ++g) {
    std::uint16_t scale = 0, bias = 0;
    encode_group(x.subspan(g * size, size), bits, index.data() + g * size, scale, bias);
    store(scalars + 2 * g, scale);
    store(scalars + 2 * (groups + g), bias);
  }
  pack_stream(bits, {index.data(), x.size()}, codes);
}

void decode_affine(int bits, int group, const std::byte* codes, const std::byte* scalars, std::span<float> x) {
  const auto size = static_cast<std::size_t>(group);
  const std::size_t groups = x.size() / size;
  std::array<std::uint8_t, max_dim> index;
  unpack_stream(bits, codes, {index.data(), x.size()});
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float scale = bf16_to_f32(load<std::uint16_t>(scalars + 2 * (i / size)));
    const float bias = bf16_to_f32(load<std::uint16_t>(scalars + 2 * (groups + i / size)));
    x[i] = scale * static_cast<float>(index[i]) + bias;
  }
}

const Method affine{SideFormat::Kind::affine, plan, encode_bf16, decode_values, describe};
const Method rotated_affine{SideFormat::Kind::rotated_affine, plan, encode_f32, decode_values, describe_rotated};

}  // namespace tqkv::codec
