// SideCodec: one vector of one side of a cache, encoded and decoded. This is the scalar reference; every device has its
// own kernels for the same bytes and is tested against it. docs/formats.md has the layout of every kind to the byte.
//
// A vector of `dim` channels is stored as `code_bytes` of codes and, apart from them, `scalar_bytes` of scalars.
// Rotated kinds take vectors that are already rotated: rotation is the caller's (basis.h). Decoding gives `space`
// floats: dim channels in the same basis, behind them, where the format has signs of S (sign_matrix.h), what they
// estimate, in the basis of S; qjl has nothing but these. A query lifted into the same space scores a key with one
// scalar product, and a sum of decoded values is lowered from it once.
#pragma once
#include <cstddef>
#include <span>

#include "codec/sign_matrix.h"
#include "tqkv/side_format.h"

namespace tqkv::codec {

struct SideCodec {
  SideFormat format;
  int dim = 0;
  std::size_t code_bytes = 0;
  std::size_t scalar_bytes = 0;
  int direct = 0;                      // channels of the decoded vector that are in the basis of the rotated one
  int signs = 0;                       // rows of S
  const SignMatrix* matrix = nullptr;  // S, where there are signs: encoding and decoding need it, sizes do not
  std::size_t vector_bytes() const { return code_bytes + scalar_bytes; }
  int space() const { return direct + signs; }
};

inline constexpr int max_dim = 1024;  ///< most channels of a vector, and most rows of S

/// Throws Error(format) when `format` cannot store vectors of `dim` channels.
SideCodec side_codec(const SideFormat& format, int dim, const SignMatrix* matrix = nullptr);

/// x [dim]: the vector as it is for plain and affine, rotated (not normalised) for the rotated kinds.
/// Affine rounds x to bf16 first, as MLX holds it, and then follows MLX's quantize to the bit; rotated_affine takes
/// f32. A vector of zeros decodes to zeros. A scalar beyond 65504 is stored as 65504. Not-a-number, infinity and ranges
/// beyond the largest f32 are the caller's to exclude.
void encode(const SideCodec& codec, std::span<const float> x, std::byte* codes, std::byte* scalars);
/// The inverse, to f32 [space].
void decode(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> out);

/// Stored bits a channel, scalars counted. Throws as side_codec does.
inline double bits_per_value(const SideFormat& format, int dim) {
  return 8.0 * static_cast<double>(side_codec(format, dim).vector_bytes()) / dim;
}

}  // namespace tqkv::codec
