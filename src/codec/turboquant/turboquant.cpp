// TurboQuant_mse (arXiv 2504.19874, algorithm 1): index of the nearest Lloyd-Max centroid of each channel of the
// rotated unit vector, and one f16 scalar. Split: a quarter of the channels with one bit more (the paper's outlier
// channels, section 4.3), each part with a scalar, a rotation and, in its centroids, a dimension of its own.
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "codec/codebook.h"
#include "codec/method.h"
#include "codec/packing.h"

namespace tqkv::codec {
namespace {

void encode_part(int bits, KvScalar scalar, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  const double n = norm_of(y);
  std::array<std::uint8_t, max_dim> index;
  const LloydMax sums = lloyd_max(bits, y, n, {index.data(), y.size()});
  pack(bits, {index.data(), y.size()}, codes);
  const auto d = static_cast<double>(y.size());
  store_f16(scalars, n > 0.0 ? stored_scalar(scalar, n, sums.products / d, sums.squares / d) : 0.0);
}

void decode_part(int bits, const std::byte* codes, const std::byte* scalars, std::span<float> y) {
  const std::span<const float> centroid = centroids(bits);
  std::array<std::uint8_t, max_dim> index;
  unpack(bits, codes, {index.data(), y.size()});
  const float factor = load_f16(scalars) / std::sqrt(static_cast<float>(y.size()));
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = centroid[index[i]] * factor;
}

void plan_whole(SideCodec& codec) {
  require_rotation(codec);
  if (codec.format.bits < 2 || codec.format.bits > 5) refuse_bits(codec, "2 to 5");
  codec.code_bytes = packed_bytes(codec.format.bits, codec.dim);
  codec.scalar_bytes = sizeof(std::uint16_t);
}

void encode_whole(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  encode_part(codec.format.bits, codec.format.scalar, y, codes, scalars);
}

void decode_whole(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> y) {
  decode_part(codec.format.bits, codes, scalars, y);
}

std::string describe_whole(const SideFormat& format) {
  return fmt::format("turboquant {} bit, scalar {}", format.bits, name(format.scalar));
}

// ---- split

void plan_split(SideCodec& codec) {
  require_rotation(codec);
  if (codec.dim < 64) refuse_dim(codec, "64 or more, for a quarter of them apart");
  if (codec.format.bits < 2 || codec.format.bits > 4) refuse_bits(codec, "2 to 4");
  const int quarter = codec.dim / 4;
  codec.code_bytes =
      packed_bytes(codec.format.bits + 1, quarter) + packed_bytes(codec.format.bits, codec.dim - quarter);
  codec.scalar_bytes = 2 * sizeof(std::uint16_t);
}

void encode_split(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  const std::size_t quarter = y.size() / 4;
  const int bits = codec.format.bits;
  encode_part(bits + 1, codec.format.scalar, y.first(quarter), codes, scalars);
  encode_part(bits, codec.format.scalar, y.subspan(quarter), codes + packed_bytes(bits + 1, static_cast<int>(quarter)),
              scalars + 2);
}

void decode_split(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> y) {
  const std::size_t quarter = y.size() / 4;
  const int bits = codec.format.bits;
  decode_part(bits + 1, codes, scalars, y.first(quarter));
  decode_part(bits, codes + packed_bytes(bits + 1, static_cast<int>(quarter)), scalars + 2, y.subspan(quarter));
}

std::string describe_split(const SideFormat& format) {
  return fmt::format("turboquant {} bit, a quarter of the channels {} bit, scalar {}", format.bits, format.bits + 1,
                     name(format.scalar));
}

}  // namespace

const Method turboquant{SideFormat::Kind::turboquant, plan_whole, encode_whole, decode_whole, describe_whole};
const Method split{SideFormat::Kind::split, plan_split, encode_split, decode_split, describe_split};

}  // namespace tqkv::codec
