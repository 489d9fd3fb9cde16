#include "runtime/mlx/codec.h"

#include <fmt/format.h>

#include <cmath>

#include "codec/codebook.h"
#include "tqkv/error.h"

namespace tqkv::mlx {
namespace {

using Kind = SideFormat::Kind;

mx::array table(std::span<const float> values) {
  return mx::array(values.begin(), {static_cast<int>(values.size())}, mx::float32);
}

// ---- planes of bits that never straddle a byte (docs/formats.md)

// 3 and 5 bits are a plane of 2 and 4 bits with a plane of the topmost bit behind it.
int lower(int bits) {
  return bits == 3 || bits == 5 ? bits - 1 : bits;
}

mx::array shifts(int width) {
  std::vector<std::uint8_t> values;
  for (int shift = 0; shift < 8; shift += width) values.push_back(static_cast<std::uint8_t>(shift));
  return mx::array(values.begin(), {static_cast<int>(values.size())}, mx::uint8);
}

mx::array byte(int value) {
  return mx::array(static_cast<std::uint8_t>(value));
}

mx::array pack_plane(const mx::array& index, int width, int shift) {
  const int per_byte = 8 / width, heads = index.shape(0), tokens = index.shape(1), dim = index.shape(2);
  const mx::array part = mx::bitwise_and(mx::right_shift(index, byte(shift)), byte((1 << width) - 1));
  const mx::array shifted = mx::left_shift(mx::reshape(part, {heads, tokens, dim / per_byte, per_byte}), shifts(width));
  return mx::astype(mx::sum(shifted, -1), mx::uint8);
}

mx::array unpack_plane(const mx::array& codes, int width, int shift) {
  const int heads = codes.shape(0), tokens = codes.shape(1), bytes = codes.shape(2);
  const mx::array part =
      mx::bitwise_and(mx::right_shift(mx::expand_dims(codes, 3), shifts(width)), byte((1 << width) - 1));
  return mx::left_shift(mx::reshape(part, {heads, tokens, bytes * 8 / width}), byte(shift));
}

mx::array pack(const mx::array& index, int bits) {
  mx::array low = pack_plane(index, lower(bits), 0);
  if (lower(bits) == bits) return low;
  return mx::concatenate({low, pack_plane(index, 1, lower(bits))}, 2);
}

mx::array unpack(const mx::array& codes, int bits) {
  if (lower(bits) == bits) return unpack_plane(codes, bits, 0);
  const int heads = codes.shape(0), tokens = codes.shape(1), bytes = codes.shape(2), low = bytes / bits * lower(bits);
  return mx::bitwise_or(unpack_plane(mx::slice(codes, {0, 0, 0}, {heads, tokens, low}), lower(bits), 0),
                        unpack_plane(mx::slice(codes, {0, 0, low}, {heads, tokens, bytes}), 1, lower(bits)));
}

// ---- turboquant

// A power of two near the largest channel of each vector [kv heads, tokens, 1], and 1 over it. Vectors are scaled by
// it, so that no square of a norm is beyond f32 or below its normal numbers; no other bit depends on it.
std::pair<mx::array, mx::array> power_near(const mx::array& y) {
  const auto bits = [](std::uint32_t value) { return mx::array(value); };
  const mx::array exponent = mx::max(mx::bitwise_and(mx::view(y, mx::uint32), bits(0x7f800000)), -1, true);
  const mx::array power = mx::clip(exponent, bits(0x00800000), bits(0x7e800000));
  return {mx::view(power, mx::float32), mx::view(mx::subtract(bits(0x7f000000), power), mx::float32)};
}

Payload encode_turboquant(const SideFormat& format, const mx::array& y) {
  const float root = std::sqrt(static_cast<float>(y.shape(2)));
  const auto [power, inverse] = power_near(y);
  const mx::array scaled = mx::multiply(y, inverse);
  // 1 or more but for zeros, whose scalar rounds to 0 all the same.
  const mx::array norm = mx::maximum(mx::sqrt(mx::sum(mx::square(scaled), -1, true)), mx::array(0x1p-30f));
  const mx::array z = mx::divide(mx::multiply(scaled, mx::array(root)), norm);  // norm [kv heads, tokens, 1]
  const std::span<const float> thresholds = codec::thresholds(format.bits);
  mx::array index = mx::zeros(z.shape(), mx::uint8);
  for (const float threshold : thresholds)
    index = mx::add(index, mx::astype(mx::greater(z, mx::array(threshold)), mx::uint8));
  const mx::array centroid = mx::take(table(codec::centroids(format.bits)), index);
  const auto dim = static_cast<float>(y.shape(2));
  const mx::array cosine = mx::divide(mx::sum(mx::multiply(z, centroid), -1, true), mx::array(dim));
  const mx::array square = mx::divide(mx::sum(mx::square(centroid), -1, true), mx::array(dim));
  mx::array scalar = norm;
  if (format.scalar == KvScalar::corrected) scalar = mx::divide(norm, mx::sqrt(square));
  if (format.scalar == KvScalar::unbiased) scalar = mx::divide(norm, mx::maximum(cosine, mx::array(0x1p-20f)));
  if (format.scalar == KvScalar::best) scalar = mx::divide(mx::multiply(norm, cosine), square);
  constexpr float largest_f16 = 65504.0f;
  scalar = mx::minimum(mx::multiply(scalar, power), mx::array(largest_f16));
  return {mx::view(mx::contiguous(pack(index, format.bits)), mx::uint32), mx::astype(scalar, mx::float16)};
}

mx::array decode_turboquant(const SideFormat& format, const Payload& payload) {
  const mx::array index = unpack(mx::view(mx::contiguous(payload[0]), mx::uint8), format.bits);
  const float root = std::sqrt(static_cast<float>(index.shape(2)));
  const mx::array factor = mx::divide(mx::astype(payload[1], mx::float32), mx::array(root));
  return mx::multiply(mx::take(table(codec::centroids(format.bits)), index), factor);
}

}  // namespace

Payload tokens_of(const Payload& payload, int first, int last) {
  if (first == 0 && last == payload.front().shape(1)) return payload;
  Payload cut;
  for (const mx::array& part : payload)
    cut.push_back(mx::slice(part, {0, first, 0}, {part.shape(0), last, part.shape(2)}));
  return cut;
}

Codec::Codec(const SideFormat& format, int kv_heads, int dim) : format_(format), kv_heads_(kv_heads) {
  check_stored(format);
  if (format.kind == Kind::plain) {
    types_ = {format.bits == 32 ? mx::float32 : mx::bfloat16};
    widths_ = {dim};
  } else if (format.kind == Kind::turboquant) {
    types_ = {mx::uint32, mx::float16};
    widths_ = {dim * format.bits / 32, 1};
  } else {
    types_ = {mx::uint32, mx::bfloat16, mx::bfloat16};
    widths_ = {dim * format.bits / 32, dim / format.group, dim / format.group};
  }
}

Payload Codec::encode(const mx::array& x) const {
  if (format_.kind == Kind::plain) return {mx::astype(x, types_[0])};
  if (format_.kind == Kind::turboquant) return encode_turboquant(format_, x);
  // MLX's own; of a rotated vector in float32, and its scale and bias are rounded afterwards.
  const mx::array values = format_.kind == Kind::affine ? mx::astype(x, mx::bfloat16) : x;
  const std::vector<mx::array> made = mx::quantize(values, format_.group, format_.bits);
  return {made[0], mx::astype(made[1], mx::bfloat16), mx::astype(made[2], mx::bfloat16)};
}

mx::array Codec::decode(const Payload& payload) const {
  if (format_.kind == Kind::plain) return mx::astype(payload[0], mx::float32);
  if (format_.kind == Kind::turboquant) return decode_turboquant(format_, payload);
  return mx::dequantize(payload[0], mx::astype(payload[1], mx::float32), mx::astype(payload[2], mx::float32),
                        format_.group, format_.bits);
}

std::size_t Codec::vector_bytes() const {
  std::size_t bytes = 0;
  for (std::size_t part = 0; part < types_.size(); ++part)
    bytes += static_cast<std::size_t>(widths_[part]) * mx::size_of(types_[part]);
  return bytes;
}

mx::array Codec::to_bytes(const Payload& payload) const {
  std::vector<mx::array> parts;
  for (const mx::array& part : payload) parts.push_back(mx::view(mx::contiguous(part), mx::uint8));
  mx::array bytes =
      mx::contiguous(mx::transpose(parts.size() == 1 ? parts.front() : mx::concatenate(parts, 2), {1, 0, 2}));
  bytes.eval();
  return bytes;
}

Payload Codec::from_bytes(const mx::array& bytes) const {
  const mx::array by_head = mx::transpose(bytes, {1, 0, 2});
  const int tokens = bytes.shape(0);
  Payload payload;
  int first = 0;
  for (std::size_t part = 0; part < types_.size(); ++part) {
    const int last = first + widths_[part] * static_cast<int>(mx::size_of(types_[part]));
    payload.push_back(
        mx::view(mx::contiguous(mx::slice(by_head, {0, 0, first}, {kv_heads_, tokens, last})), types_[part]));
    first = last;
  }
  return payload;
}

void check_stored(const SideFormat& side) {
  switch (side.kind) {
    case Kind::plain:
    case Kind::affine:
    case Kind::rotated_affine:
    case Kind::turboquant:
      return;
    default:
      throw Error(ErrorKind::format,
                  fmt::format("the device mlx does not store {}: give --backend baseline, mlx_quant, rotated_quant or "
                              "turboquant (of whole bits), or --device cpu",
                              side.describe()));
  }
}

void check_stored(const ModelConfig& config, const KvFormat& format) {
  for (int layer = 0, index = 0; layer < config.num_layers(); ++layer) {
    if (config.layers[static_cast<std::size_t>(layer)] != LayerKind::full_attention) continue;
    const auto sides = format.sides(layer, index++, config.attention_layers());
    check_stored(sides.k);
    check_stored(sides.v);
  }
}

}  // namespace tqkv::mlx
