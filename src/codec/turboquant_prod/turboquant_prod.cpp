// TurboQuant_prod (arXiv 2504.19874, algorithm 2), in the rotated basis: of b bits a channel b - 1 are TurboQuant_mse,
// one is the sign of S r, r = u - ũ the residual of the unit vector; scalars: f16 n = ‖y‖, f16 g = ‖r‖. The decoded
// vector is n (ũ, g factor z): unbiased for every query that is lifted to (q, S q).
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "codec/codebook.h"
#include "codec/method.h"
#include "codec/packing.h"

namespace tqkv::codec {
namespace {

void plan(SideCodec& codec) {
  require_rotation(codec);
  if (codec.format.bits < 2 || codec.format.bits > 5) refuse_bits(codec, "2 to 5");
  codec.code_bytes = packed_bytes(codec.format.bits - 1, codec.dim) + packed_bytes(1, codec.dim);
  codec.scalar_bytes = 2 * sizeof(std::uint16_t);
  codec.signs = codec.dim;
}

void encode_vector(const SideCodec& codec, std::span<const float> y, std::byte* codes, std::byte* scalars) {
  const int bits = codec.format.bits - 1;
  const double n = norm_of(y);
  std::array<std::uint8_t, max_dim> index;
  lloyd_max(bits, y, n, {index.data(), y.size()});
  pack(bits, {index.data(), y.size()}, codes);

  const std::span<const float> centroid = centroids(bits);
  const double root = std::sqrt(static_cast<double>(y.size()));
  std::array<float, max_dim> residual;
  for (std::size_t i = 0; i < y.size(); ++i)
    residual[i] =
        n > 0.0 ? static_cast<float>(static_cast<double>(y[i]) / n - static_cast<double>(centroid[index[i]]) / root)
                : 0.0f;
  const std::span<const float> r(residual.data(), y.size());
  pack_signs(codec, r, codes + packed_bytes(bits, codec.dim));
  store_f16(scalars, n);
  store_f16(scalars + 2, norm_of(r));
}

void decode_vector(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> out) {
  const int bits = codec.format.bits - 1;
  const auto d = static_cast<std::size_t>(codec.dim);
  const std::span<const float> centroid = centroids(bits);
  std::array<std::uint8_t, max_dim> index;
  unpack(bits, codes, {index.data(), d});
  const float n = load_f16(scalars), factor = n / std::sqrt(static_cast<float>(d));
  for (std::size_t i = 0; i < d; ++i) out[i] = centroid[index[i]] * factor;
  unpack_signs(codec, codes + packed_bytes(bits, codec.dim), n * load_f16(scalars + 2), out.subspan(d));
}

std::string describe(const SideFormat& format) {
  return fmt::format("turboquant {} bit and {} signs", format.bits - 1, name(format.projection));
}

}  // namespace

const Method prod{SideFormat::Kind::prod, plan, encode_vector, decode_vector, describe};

}  // namespace tqkv::codec
