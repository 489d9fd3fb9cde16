// SideCodec: one vector of one side of a cache, encoded and decoded. This is the scalar reference; every device has its
// own kernels for the same bytes and is tested against it.
//
// A vector of `dim` channels is stored as `code_bytes` of codes and, apart from them, `scalar_bytes` of scalars:
//   plain 16 / 32      codes: bf16 / f32 values, little endian; no scalars
//   affine, b = 4      codes: nibbles, channel 2i in the low half of byte i
//                      scalars: bf16 scale of each group, then bf16 bias of each group
//   affine, b = 8      codes: a byte a channel; scalars the same
//   turboquant, 4 bit  codes: nibbles as above; scalars: one f16
//   turboquant, 2 bit  codes: four channels a byte, channel 4i in the lowest two bits of byte i
//   turboquant, 3 bit  codes: the 2-bit plane (low two bits of each index), then a 1-bit plane (bit 2 of each index;
//                      channel 8i in the lowest bit of byte i)
//   turboquant, 5 bit  codes: the nibble plane (low four bits), then a 1-bit plane (bit 4)
// Rotated kinds take and give vectors that are already rotated (y = H D x): rotation is the caller's.
#pragma once
#include <cstddef>
#include <span>

#include "tqkv/kv_format.h"

namespace tqkv::codec {

struct SideCodec {
  SideFormat format;
  int dim = 0;
  std::size_t code_bytes = 0;
  std::size_t scalar_bytes = 0;
  std::size_t vector_bytes() const { return code_bytes + scalar_bytes; }
};

inline constexpr int max_dim = 1024;  ///< most channels of a vector

/// Throws Error(format) when `format` cannot store vectors of `dim` channels.
SideCodec side_codec(const SideFormat& format, int dim);

/// x [dim]: the vector as it is for plain and affine, rotated (not normalised) for the rotated kinds.
/// Affine rounds x to bf16 first, as MLX holds it, and then follows MLX's quantize to the bit; rotated_affine takes
/// f32. A turboquant vector of zeros takes the index of 0, 2^(bits-1) - 1, in every channel and the scalar 0. A scalar
/// beyond 65504 is stored as 65504. Not-a-number, infinity and ranges beyond the largest f32 are the caller's to
/// exclude.
void encode(const SideCodec& codec, std::span<const float> x, std::byte* codes, std::byte* scalars);
/// The inverse, to f32 [dim], in the same basis.
void decode(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> x);

/// Stored bits a channel, scalars counted. Throws as side_codec does.
inline double bits_per_value(const SideFormat& format, int dim) {
  return 8.0 * static_cast<double>(side_codec(format, dim).vector_bytes()) / dim;
}

}  // namespace tqkv::codec
