// QJL (arXiv 2406.03482): the signs of S y and f16 ‖y‖. The decoded vector is ‖y‖ factor z, in the basis of S alone.
#include <fmt/format.h>

#include "codec/method.h"
#include "codec/packing.h"

namespace tqkv::codec {
namespace {

void plan(SideCodec& codec) {
  require_rotation(codec);
  const int rows = codec.format.rows;
  if (rows < 64 || rows > max_dim || rows % 64 != 0)
    refuse(codec, fmt::format("{} signs were asked for, there are multiples of 64 up to {}", rows, max_dim));
  codec.signs = rows;
  codec.direct = 0;
  codec.code_bytes = packed_bytes(1, rows);
  codec.scalar_bytes = sizeof(std::uint16_t);
}

void encode_vector(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  pack_signs(codec, y, codes);
  store_f16(scalars, norm_of(y));
}

void decode_vector(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> out) {
  unpack_signs(codec, codes, load_f16(scalars), out);
}

std::string describe(const SideFormat& format) {
  return fmt::format("{} {} signs", format.rows, name(format.projection));
}

}  // namespace

const Method signs{SideFormat::Kind::signs, plan, encode_vector, decode_vector, describe};

}  // namespace tqkv::codec
