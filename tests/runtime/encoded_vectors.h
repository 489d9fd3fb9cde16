// Vectors as a cache holds them, through the scalar codec; and codecs of every kind.
#pragma once
#include <list>
#include <string>
#include <vector>

#include "codec/side_codec.h"
#include "kernel_inputs.h"

namespace tqkv::cpu {

struct Encoded {
  std::vector<std::byte> codes, scalars;
};

inline Encoded room(const codec::SideCodec& codec, int n) {
  return {std::vector<std::byte>(size(n) * codec.code_bytes), std::vector<std::byte>(size(n) * codec.scalar_bytes)};
}

inline Encoded reference_encode(const codec::SideCodec& codec, const std::vector<float>& x, int n) {
  auto encoded = room(codec, n);
  const auto dim = size(codec.dim);
  for (std::size_t i = 0; i < size(n); ++i)
    codec::encode(codec, {x.data() + i * dim, dim}, encoded.codes.data() + i * codec.code_bytes,
                  encoded.scalars.data() + i * codec.scalar_bytes);
  return encoded;
}

/// [n, codec.space()]
inline std::vector<float> reference_decode(const codec::SideCodec& codec, const Encoded& encoded, int n) {
  const auto space = size(codec.space());
  std::vector<float> x(size(n) * space);
  for (std::size_t i = 0; i < size(n); ++i)
    codec::decode(codec, encoded.codes.data() + i * codec.code_bytes, encoded.scalars.data() + i * codec.scalar_bytes,
                  {x.data() + i * space, space});
  return x;
}

/// Codecs and the matrices that they need.
class Codecs {
 public:
  Codecs() = default;
  Codecs(Codecs&&) = default;  // the list keeps its matrices where they are
  const std::vector<codec::SideCodec>& all() const { return all_; }
  void add(const SideFormat& format, int dim) {
    const auto bare = codec::side_codec(format, dim);
    const codec::SignMatrix* matrix = nullptr;
    if (bare.signs > 0) matrix = &matrices_.emplace_back(format.projection, bare.signs, dim, 5);
    all_.push_back(codec::side_codec(format, dim, matrix));
  }

 private:
  std::vector<codec::SideCodec> all_;
  std::list<codec::SignMatrix> matrices_;
};

inline SideFormat format_of(SideFormat::Kind kind, int bits, int group = 0) {
  SideFormat format;
  format.kind = kind;
  format.bits = bits;
  format.group = group;
  return format;
}

inline constexpr KvScalar every_scalar[] = {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best};
inline constexpr Projection both_projections[] = {Projection::gaussian, Projection::orthogonal};

inline void add_plain(Codecs& codecs) {
  for (const int dim : {1, 7, 40, 64, 96, 100, 128, 256})
    for (const int bits : {16, 32}) codecs.add(format_of(SideFormat::Kind::plain, bits), dim);
}

inline void add_affine(Codecs& codecs) {
  for (const int bits : {2, 3, 4, 5, 6, 8})
    for (const int group : {32, 64, 128})
      for (const int dim : {32, 64, 96, 128, 192, 256, 1024}) {
        if (dim % group != 0) continue;
        codecs.add(format_of(SideFormat::Kind::affine, bits, group), dim);
        if (dim != 96 && dim != 192) codecs.add(format_of(SideFormat::Kind::rotated_affine, bits, group), dim);
      }
}

inline void add_turboquant(Codecs& codecs) {
  for (const int dim : {16, 32, 64, 128, 256, 1024})
    for (const auto scalar : every_scalar) {
      auto format = format_of(SideFormat::Kind::turboquant, 2);
      format.scalar = scalar;
      for (format.bits = 2; format.bits <= 5; ++format.bits) codecs.add(format, dim);
      if (dim < 64) continue;
      format.kind = SideFormat::Kind::split;
      for (format.bits = 2; format.bits <= 4; ++format.bits) codecs.add(format, dim);
    }
}

inline void add_trellis(Codecs& codecs) {
  constexpr int states[] = {16, 8, 4};
  for (const int dim : {64, 128, 256})
    for (int bits = 2; bits <= 4; ++bits) {
      auto format = format_of(SideFormat::Kind::trellis, bits);
      format.states = states[bits - 2];
      format.scalar = KvScalar::best;
      codecs.add(format, dim);
    }
}

inline void add_signs(Codecs& codecs) {
  for (const auto projection : both_projections)
    for (const int dim : {16, 64, 128, 256}) {
      auto format = format_of(SideFormat::Kind::prod, 2);
      format.projection = projection;
      for (format.bits = 2; format.bits <= 5; ++format.bits) codecs.add(format, dim);
      format = format_of(SideFormat::Kind::signs, 1);
      format.projection = projection;
      for (const int rows : {64, 128, 192, 256, 512}) {
        format.rows = rows;
        codecs.add(format, dim);
      }
    }
}

inline void add_sketch(Codecs& codecs) {
  for (const int dim : {64, 128, 256})
    for (const int bits : {2, 3, 4, 5, 6, 8})
      for (const int group : {32, 64}) codecs.add(format_of(SideFormat::Kind::sketch, bits, group), dim);
}

inline void add_polar(Codecs& codecs) {
  for (const int dim : {64, 128, 256, 512, 1024}) codecs.add(format_of(SideFormat::Kind::polar, 4), dim);
}

}  // namespace tqkv::cpu
