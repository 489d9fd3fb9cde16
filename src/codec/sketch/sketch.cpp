// Rotated affine codes with a correction of the score: the signs of S r, r = y - ŷ, and f16 g = ‖r‖. The decoded vector
// is (ŷ, g factor z): unbiased for every query that is lifted to (q, S q).
#include <array>

#include <fmt/format.h>

#include "codec/method.h"
#include "codec/packing.h"

namespace tqkv::codec {
namespace {

void plan(SideCodec& codec) {
  require_rotation(codec);
  check_affine(codec);
  codec.signs = codec.dim;
  codec.code_bytes = packed_bytes(codec.format.bits, codec.dim) + packed_bytes(1, codec.dim);
  codec.scalar_bytes = affine_scalar_bytes(codec.format.group, codec.dim) + sizeof(std::uint16_t);
}

void encode_vector(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  const int bits = codec.format.bits, group = codec.format.group;
  encode_affine(bits, group, y, codes, scalars);
  std::array<float, max_dim> residual;
  decode_affine(bits, group, codes, scalars, {residual.data(), y.size()});
  for (std::size_t i = 0; i < y.size(); ++i) residual[i] = y[i] - residual[i];
  const std::span<const float> r(residual.data(), y.size());
  pack_signs(codec, r, codes + packed_bytes(bits, codec.dim));
  store_f16(scalars + affine_scalar_bytes(group, codec.dim), norm_of(r));
}

void decode_vector(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> out) {
  const int bits = codec.format.bits, group = codec.format.group;
  const auto d = static_cast<std::size_t>(codec.dim);
  decode_affine(bits, group, codes, scalars, out.first(d));
  unpack_signs(codec, codes + packed_bytes(bits, codec.dim), load_f16(scalars + affine_scalar_bytes(group, codec.dim)),
               out.subspan(d));
}

std::string describe(const SideFormat& format) {
  return fmt::format("rotated affine {} bit, group {}, and signs", format.bits, format.group);
}

}  // namespace

const Method sketch{SideFormat::Kind::sketch, plan, encode_vector, decode_vector, describe};

}  // namespace tqkv::codec
