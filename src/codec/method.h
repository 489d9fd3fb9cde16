// Method: what a codec is to the rest of the program, in one table entry a kind of side. docs/adding-a-codec.md walks
// through a new one.
#pragma once
#include <cstddef>
#include <span>
#include <string>

#include "codec/side_codec.h"

namespace tqkv::codec {

struct Method {
  SideFormat::Kind kind;
  /// Checks codec.format against codec.dim and fills in the sizes. Throws Error(format).
  void (*plan)(SideCodec& codec);
  /// x [dim]: see side_codec.h.
  void (*encode)(const SideCodec& codec, std::span<const float> x, std::byte* codes, std::byte* scalars);
  /// out [codec.space].
  void (*decode)(const SideCodec& codec, const std::byte* codes, const std::byte* scalars, std::span<float> out);
  std::string (*describe)(const SideFormat& format);
};

extern const Method plain, affine, rotated_affine, turboquant, split, trellis, prod, signs, polar, sketch;

const Method& method(SideFormat::Kind kind);

/// Throws Error(format): the format's description, then `why`.
[[noreturn]] void refuse(const SideCodec& codec, std::string_view why);
[[noreturn]] void refuse_dim(const SideCodec& codec, std::string_view expected);
[[noreturn]] void refuse_bits(const SideCodec& codec, std::string_view expected);
/// Throws unless the vectors can be rotated: a power of two from 16 to 1024.
void require_rotation(const SideCodec& codec);

// ---- what several methods share

/// ‖x‖ in double: the square of the smallest f32 is still a normal number.
double norm_of(std::span<const float> x);
/// Rounds to f16; beyond 65504 it stays there.
void store_f16(std::byte* to, double value);
float load_f16(const std::byte* from);
/// The stored number for n = ‖y‖, cosine = ⟨u,ũ⟩ and square = ‖ũ‖².
double stored_scalar(KvScalar scalar, double n, double cosine, double square);

/// Lloyd-Max indices [n] of y sqrt(n) / norm, and what the scalars are made of.
struct LloydMax {
  double products = 0;  // of y sqrt(n) / norm and the centroids taken
  double squares = 0;   // of the centroids taken
};
LloydMax lloyd_max(int bits, std::span<const float> y, double norm, std::span<std::uint8_t> index);

/// Signs of S r, r [dim], packed into codec.signs / 8 bytes: 1 where the product is not negative.
void pack_signs(const SideCodec& codec, std::span<const float> r, std::byte* codes);
/// out [signs]: norm * factor, with the signs kept.
void unpack_signs(const SideCodec& codec, const std::byte* codes, float norm, std::span<float> out);

/// Affine quantization of x [n], whole groups: MLX's, step by step in f32.
std::size_t affine_scalar_bytes(int group, int dim);
void encode_affine(int bits, int group, std::span<const float> x, std::byte* codes, std::byte* scalars);
void decode_affine(int bits, int group, const std::byte* codes, const std::byte* scalars, std::span<float> x);
/// Throws Error(format) for bits and groups that affine codes do not have, and for dimensions that are not whole
/// groups.
void check_affine(const SideCodec& codec);

}  // namespace tqkv::codec
