// Vectors of the cache to bytes and back in every format, as codec::encode and codec::decode do (src/codec/*/ has the
// scalar loops, docs/formats.md the layouts). Decoding writes 4 bytes for each of codec.space() floats and is bound by
// that; encoding reads 4 bytes a channel. With signs of S it takes a Walsh-Hadamard transform for each dim of them, or,
// where S is Gaussian, dim multiply-adds for every one.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codec/side_codec.h"
#include "runtime/cpu/codec_calls.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/codes-inl.h"
#include "runtime/cpu/kernels/gemm-inl.h"
#include "runtime/cpu/kernels/hadamard-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/lookup-inl.h"
#include "runtime/cpu/kernels/simd-inl.h"
#include "runtime/cpu/kernels/trellis-inl.h"
#include "tqkv/kv_format.h"

namespace tqkv::cpu::TQKV_ISA::vec {

HWY_INLINE float f16_at(const Byte* p) {
  return f16_at(reinterpret_cast<const std::byte*>(p));
}

/// Runs encode_one(x, codes, scalars) for each of n vectors; where it returns false, having written nothing that
/// matters, the scalar codec encodes the vector.
template <class EncodeOne>
HWY_INLINE void encode_each(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                            std::byte* codes, std::byte* scalars, EncodeOne encode_one) {
  for (int i = 0; i < n; ++i, x += x_stride, codes += codec.code_bytes, scalars += codec.scalar_bytes)
    if (!encode_one(x, bytes(codes), bytes(scalars))) encode_reference(codec, x, codes, scalars);
}

/// Runs decode_one(codes, scalars, out) for each of n vectors.
template <class DecodeOne>
HWY_INLINE void decode_each(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                            float* out, DecodeOne decode_one) {
  const int space = codec.direct + codec.signs;
  for (int i = 0; i < n; ++i, codes += codec.code_bytes, scalars += codec.scalar_bytes, out += space)
    decode_one(bytes(codes), bytes(scalars), out);
}

// ---- signs of S r

/// Bit i of codes: whether x[i] >= 0; n is a multiple of 16.
HWY_INLINE void pack_signs(const float* x, int n, Byte* codes) {
  const auto bits_of = [](const float* p) {
    std::uint8_t bits[8] = {};
    hn::StoreMaskBits(tag, hn::Ge(load(p), zero()), bits);
    std::uint16_t word;
    std::memcpy(&word, bits, 2);
    return static_cast<unsigned>(word);
  };
  for (int i = 0; i < n; i += 16) {
    unsigned word = 0;
    for (int j = 0; j < 16; j += lanes) word |= bits_of(x + i + j) << j;
    const auto both = static_cast<std::uint16_t>(word);
    std::memcpy(codes + i / 8, &both, 2);
  }
}

/// Residuals of up to four vectors: a Gaussian S passes through the caches once for all of them.
struct Residuals {
  static constexpr int most = 4;
  alignas(64) float r[most][codec::max_dim];
  Byte* codes[most];  // of the signs
  int count = 0;
};

//   codes bit j of each vector:  <S[j], r> >= 0
inline void encode_signs(const codec::SideCodec& codec, const SignRows& s, Residuals& residuals) {
  const int dim = codec.dim, rows = codec.signs, n = residuals.count;
  residuals.count = 0;
  if (n == 0) return;
  alignas(64) float products[Residuals::most][codec::max_dim];
  if (s.gaussian) {
    for (int j = 0; j < rows; j += 4)
      dots(residuals.r[0], codec::max_dim, n, s.values + static_cast<std::ptrdiff_t>(j) * dim, dim, 4, dim,
           products[0] + j, codec::max_dim);
    for (int i = 0; i < n; ++i) pack_signs(products[i], rows, residuals.codes[i]);
    return;
  }
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < rows; j += dim) {
      float* block = products[0];
      std::memcpy(block, residuals.r[i], sizeof(float) * static_cast<std::size_t>(dim));
      hadamard(block, dim, s.values + j, nullptr);
      pack_signs(block, rows - j < dim ? rows - j : dim, residuals.codes[i] + j / 8);
    }
}

/// For each of n vectors add_one(x, codes, scalars, r) fills the residual r and returns where its signs belong; null:
/// the scalar codec encodes the vector.
template <class AddOne>
HWY_INLINE void encode_with_signs(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                                  std::byte* codes, std::byte* scalars, AddOne add_one) {
  const SignRows s = sign_rows(*codec.matrix);
  Residuals residuals;
  encode_each(codec, x, x_stride, n, codes, scalars, [&](const float* one, Byte* own_codes, Byte* own_scalars) {
    Byte* signs = add_one(one, own_codes, own_scalars, residuals.r[residuals.count]);
    if (!signs) return false;
    residuals.codes[residuals.count++] = signs;
    if (residuals.count == Residuals::most) encode_signs(codec, s, residuals);
    return true;
  });
  encode_signs(codec, s, residuals);
}

// ---- qjl

//   codes = signs of S y;  scalar = |y|
inline void encode_qjl(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n, std::byte* codes,
                       std::byte* scalars) {
  encode_with_signs(codec, x, x_stride, n, codes, scalars,
                    [&](const float* y, Byte* own_codes, Byte* own_scalars, float* r) {
                      std::memcpy(r, y, sizeof(float) * static_cast<std::size_t>(codec.dim));
                      store_f16(sqrt(sum_of_squares(y, codec.dim)), own_scalars);
                      return own_codes;
                    });
}

//   out[j] = ±(scalar factor)
inline void decode_qjl(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                       float* out) {
  const float factor = sign_rows(*codec.matrix).factor;
  decode_each(codec, codes, scalars, n, out, [&](const Byte* own_codes, const Byte* own_scalars, float* to) {
    look_up_signs(own_codes, codec.signs, f16_at(own_scalars) * factor, to);
  });
}

// ---- turboquant_prod

//   codes of y as turboquant with one bit less;  r = y / |y| - c / sqrt(dim), c the centroids taken;  signs of S r;
//   scalars = |y|, |r|
inline void encode_prod(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n, std::byte* codes,
                        std::byte* scalars) {
  const int dim = codec.dim, bits = codec.format.bits - 1;
  const Centroids centroids = centroids_of(bits);
  const F root = set(1.0f / sqrtf(static_cast<float>(dim)));
  encode_with_signs(codec, x, x_stride, n, codes, scalars,
                    [&](const float* y, Byte* own_codes, Byte* own_scalars, float* r) -> Byte* {
                      const double norm = encode_part(centroids, KvScalar::norm, y, dim, own_codes, own_scalars);
                      if (!(norm > 0)) return nullptr;
                      const F to_unit = set(static_cast<float>(1.0 / norm));
                      look_up(centroids, 1.0f, own_codes, dim, r);
                      for (int i = 0; i < dim; i += lanes)
                        store(hn::NegMulAdd(load(r + i), root, hn::Mul(load(y + i), to_unit)), r + i);
                      store_f16(sqrt(sum_of_squares(r, dim)), own_scalars + 2);
                      return own_codes + dim * bits / 8;
                    });
}

//   out[i] = centroid[index[i]] * (n / sqrt(dim));  out[dim + j] = ±(n g factor)
inline void decode_prod(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                        float* out) {
  const int dim = codec.dim, bits = codec.format.bits - 1;
  const Centroids centroids = centroids_of(bits);
  const float root = sqrtf(static_cast<float>(dim)), factor = sign_rows(*codec.matrix).factor;
  decode_each(codec, codes, scalars, n, out, [&](const Byte* own_codes, const Byte* own_scalars, float* to) {
    const float norm = f16_at(own_scalars);
    look_up(centroids, norm / root, own_codes, dim, to);
    look_up_signs(own_codes + dim * bits / 8, dim, norm * f16_at(own_scalars + 2) * factor, to + dim);
  });
}

// ---- sketch

//   affine codes of y;  r = y - decoded y;  signs of S r;  last scalar = |r|
inline void encode_sketch(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                          std::byte* codes, std::byte* scalars) {
  const int dim = codec.dim, bits = codec.format.bits, group = codec.format.group;
  encode_with_signs(codec, x, x_stride, n, codes, scalars,
                    [&](const float* y, Byte* own_codes, Byte* own_scalars, float* r) {
                      encode_affine<false>(bits, group, dim, y, own_codes, own_scalars);
                      decode_affine(bits, group, dim, own_codes, own_scalars, r);
                      for (int i = 0; i < dim; i += lanes) store(hn::Sub(load(y + i), load(r + i)), r + i);
                      store_f16(sqrt(sum_of_squares(r, dim)), own_scalars + 4 * (dim / group));
                      return own_codes + dim * bits / 8;
                    });
}

//   out[i] = scale * index[i] + bias;  out[dim + j] = ±(g factor)
inline void decode_sketch(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                          float* out) {
  const int dim = codec.dim, bits = codec.format.bits, group = codec.format.group;
  const float factor = sign_rows(*codec.matrix).factor;
  decode_each(codec, codes, scalars, n, out, [&](const Byte* own_codes, const Byte* own_scalars, float* to) {
    decode_affine(bits, group, dim, own_codes, own_scalars, to);
    look_up_signs(own_codes + dim * bits / 8, dim, f16_at(own_scalars + 4 * (dim / group)) * factor, to + dim);
  });
}

// ---- split: two vectors of turboquant, a quarter of the channels with one bit more

inline void encode_split(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                         std::byte* codes, std::byte* scalars) {
  const int quarter = codec.dim / 4, rest = codec.dim - quarter, bits = codec.format.bits;
  const Centroids more = centroids_of(bits + 1), fewer = centroids_of(bits);
  const KvScalar kind = codec.format.scalar;
  encode_each(codec, x, x_stride, n, codes, scalars, [&](const float* y, Byte* own_codes, Byte* own_scalars) {
    return encode_part(more, kind, y, quarter, own_codes, own_scalars) > 0 &&
           encode_part(fewer, kind, y + quarter, rest, own_codes + quarter * (bits + 1) / 8, own_scalars + 2) > 0;
  });
}

inline void decode_split(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                         float* out) {
  const int quarter = codec.dim / 4, rest = codec.dim - quarter, bits = codec.format.bits;
  const Centroids more = centroids_of(bits + 1), fewer = centroids_of(bits);
  const float root = sqrtf(static_cast<float>(quarter)), rest_root = sqrtf(static_cast<float>(rest));
  decode_each(codec, codes, scalars, n, out, [&](const Byte* own_codes, const Byte* own_scalars, float* to) {
    look_up(more, f16_at(own_scalars) / root, own_codes, quarter, to);
    look_up(fewer, f16_at(own_scalars + 2) / rest_root, own_codes + quarter * (bits + 1) / 8, rest, to + quarter);
  });
}

// ---- polar

/// Number of the three edges that lie below the angle of (a, b), both not negative: b cos > a sin, or, at level 1,
/// where an edge belongs to the bin above it, b cos >= a sin.
template <bool first_level>
HWY_INLINE hn::Vec<IntTag> edges_below(F a, F b, const float* cosine, const float* sine) {
  auto count = hn::Zero(int_tag);
  for (int t = 0; t < 3; ++t) {
    const F up = hn::Mul(b, set(cosine[t])), across = hn::Mul(a, set(sine[t]));
    const auto below = first_level ? hn::Ge(up, across) : hn::Gt(up, across);
    count = hn::Sub(count, hn::VecFromMask(int_tag, hn::RebindMask(int_tag, below)));
  }
  return count;
}

/// Bin of the angle of (a, b) in 0 … 15: turned into the first quadrant first.
HWY_INLINE hn::Vec<IntTag> polar_bin(F a, F b, const float* cosine, const float* sine) {
  const auto below = hn::Or(hn::Lt(b, zero()), hn::And(hn::Eq(b, zero()), hn::Lt(a, zero())));
  a = hn::IfThenElse(below, hn::Neg(a), a);
  b = hn::IfThenElse(below, hn::Neg(b), b);
  const auto left = hn::And(hn::Le(a, zero()), hn::Gt(b, zero()));
  const F across = hn::IfThenElse(left, b, a), up = hn::IfThenElse(left, hn::Neg(a), b);
  // The origin lies above no edge.
  const auto count = hn::IfThenZeroElse(hn::RebindMask(int_tag, hn::And(hn::Eq(across, zero()), hn::Eq(up, zero()))),
                                        edges_below<true>(across, up, cosine, sine));
  const auto eight = hn::And(hn::VecFromMask(int_tag, hn::RebindMask(int_tag, below)), hn::Set(int_tag, 8)),
             four = hn::And(hn::VecFromMask(int_tag, hn::RebindMask(int_tag, left)), hn::Set(int_tag, 4));
  return hn::Add(count, hn::Add(eight, four));
}

//   for level in 1 … 4:  for pairs (a, b) of radii, of channels at first:  index = bin of atan2(b, a),  radius =
//   hypot(a, b);  scalars = the last radii
inline bool encode_polar_vector(const PolarTables& tables, const float* y, int dim, Byte* codes, Byte* scalars) {
  const double squares = sum_of_squares(y, dim);
  if (!(squares > 1e-20 && squares < 1e30)) return false;  // squares of f32 would vanish or overflow
  alignas(64) float radius[codec::max_dim] = {};
  alignas(64) Byte index[codec::max_dim] = {};
  alignas(64) Byte packed[codec::max_dim / 2];  // whole words of indices, the last of which may be half empty
  Byte* to = packed;
  const float* in = y;
  int count = dim / 2;
  for (int level = 0; level < 4; ++level, in = radius, count /= 2) {
    const float *cosine = tables.edge_cosine[level], *sine = tables.edge_sine[level];
    for (int i = 0; i < count; i += lanes) {
      F a, b;
      hn::LoadInterleaved2(tag, in + 2 * i, a, b);
      const auto bin = level == 0 ? polar_bin(a, b, cosine, sine) : edges_below<false>(a, b, cosine, sine);
      hn::StoreU(hn::DemoteTo(ByteTag(), bin), ByteTag(), index + i);
      store(hn::Sqrt(hn::MulAdd(a, a, hn::Mul(b, b))), radius + i);
    }
    pack(level == 0 ? 4 : 2, index, count, to);
    to += level == 0 ? count / 2 : count / 4;
  }
  std::memcpy(codes, packed, static_cast<std::size_t>(dim / 16 * 46 / 8));
  for (int i = 0; i < dim / 16; ++i) store_f16(static_cast<double>(radius[i]), scalars + 2 * i);
  return true;
}

inline void encode_polar(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                         std::byte* codes, std::byte* scalars) {
  const PolarTables& tables = polar_tables();
  encode_each(codec, x, x_stride, n, codes, scalars, [&](const float* y, Byte* own_codes, Byte* own_scalars) {
    return encode_polar_vector(tables, y, codec.dim, own_codes, own_scalars);
  });
}

struct PolarLevel {
  Table cosine, sine;
};

//   for i in count:  out[2 i], out[2 i + 1] = radius[i] * cosine[index[i]], radius[i] * sine[index[i]]
template <int width>
HWY_INLINE void polar_level(const PolarLevel& level, const Byte* codes, int count, const float* radius, float* out) {
  alignas(64) float cosine[codec::max_dim / 2], sine[codec::max_dim / 2];
  alignas(64) Byte few[8] = {};  // of less than 16 indices, whose bytes end before a whole word does
  if (count < 16) {
    std::memcpy(few, codes, static_cast<std::size_t>(count * width / 8));
    codes = few;
  }
  const int looked_up = count < 16 ? 16 : count;
  look_up<width, false>(level.cosine, codes, nullptr, looked_up, cosine);
  look_up<width, false>(level.sine, codes, nullptr, looked_up, sine);
  int i = 0;
  for (; i + lanes <= count; i += lanes) {
    const F r = load(radius + i);
    hn::StoreInterleaved2(hn::Mul(r, load(cosine + i)), hn::Mul(r, load(sine + i)), tag, out + 2 * i);
  }
  for (; i < count; ++i) {
    out[2 * i] = radius[i] * cosine[i];
    out[2 * i + 1] = radius[i] * sine[i];
  }
}

inline void decode_polar(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                         float* out) {
  const int dim = codec.dim;
  const PolarTables& tables = polar_tables();
  PolarLevel levels[4];
  for (int i = 0; i < 4; ++i)
    levels[i] = {table_of(tables.cosine[i], i == 0 ? 4 : 2), table_of(tables.sine[i], i == 0 ? 4 : 2)};
  decode_each(codec, codes, scalars, n, out, [&](const Byte* own_codes, const Byte* own_scalars, float* to) {
    alignas(64) float a[codec::max_dim / 2], b[codec::max_dim / 2];
    load_f16(own_scalars, dim / 16, a);
    // The planes lie one behind the other: d/2 angles of 4 bits, d/4, d/8 and d/16 of 2 bits.
    const Byte *second = own_codes + dim / 4, *third = second + dim / 16, *fourth = third + dim / 32;
    polar_level<2>(levels[3], fourth, dim / 16, a, b);
    polar_level<2>(levels[2], third, dim / 8, b, a);
    polar_level<2>(levels[1], second, dim / 4, a, b);
    polar_level<4>(levels[0], own_codes, dim / 2, b, to);
  });
}

// ---- every format

inline void encode_plain(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                         std::byte* codes, std::byte* scalars) {
  encode_each(codec, x, x_stride, n, codes, scalars, [&](const float* one, Byte* own_codes, Byte*) {
    if (codec.format.bits == 32)
      std::memcpy(own_codes, one, codec.code_bytes);
    else
      encode_bf16(one, codec.dim, own_codes);
    return true;
  });
}

template <bool as_bf16>
inline void encode_affine(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                          std::byte* codes, std::byte* scalars) {
  encode_each(codec, x, x_stride, n, codes, scalars, [&](const float* one, Byte* own_codes, Byte* own_scalars) {
    encode_affine<as_bf16>(codec.format.bits, codec.format.group, codec.dim, one, own_codes, own_scalars);
    return true;
  });
}

inline void encode_turboquant(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                              std::byte* codes, std::byte* scalars) {
  const Centroids centroids = centroids_of(codec.format.bits);
  encode_each(codec, x, x_stride, n, codes, scalars, [&](const float* y, Byte* own_codes, Byte* own_scalars) {
    return encode_part(centroids, codec.format.scalar, y, codec.dim, own_codes, own_scalars) > 0;
  });
}

inline void encode(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n, std::byte* codes,
                   std::byte* scalars) {
  switch (codec.format.kind) {
    case Kind::plain:
      return encode_plain(codec, x, x_stride, n, codes, scalars);
    case Kind::affine:
      return encode_affine<true>(codec, x, x_stride, n, codes, scalars);
    case Kind::rotated_affine:
      return encode_affine<false>(codec, x, x_stride, n, codes, scalars);
    case Kind::turboquant:
      return encode_turboquant(codec, x, x_stride, n, codes, scalars);
    case Kind::split:
      return encode_split(codec, x, x_stride, n, codes, scalars);
    case Kind::trellis:
      return encode_trellis(codec, x, x_stride, n, codes, scalars);
    case Kind::prod:
      return encode_prod(codec, x, x_stride, n, codes, scalars);
    case Kind::signs:
      return encode_qjl(codec, x, x_stride, n, codes, scalars);
    case Kind::polar:
      return encode_polar(codec, x, x_stride, n, codes, scalars);
    case Kind::sketch:
      return encode_sketch(codec, x, x_stride, n, codes, scalars);
  }
}

inline void decode(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n, float* out) {
  const std::size_t values = static_cast<std::size_t>(codec.dim) * static_cast<std::size_t>(n);
  switch (codec.format.kind) {
    case Kind::plain:
      if (codec.format.bits == 32)
        std::memcpy(out, codes, 4 * values);
      else
        decode_bf16(bytes(codes), values, out);
      return;
    case Kind::affine:
    case Kind::rotated_affine:
      return decode_each(codec, codes, scalars, n, out, [&](const Byte* own_codes, const Byte* own_scalars, float* to) {
        decode_affine(codec.format.bits, codec.format.group, codec.dim, own_codes, own_scalars, to);
      });
    case Kind::turboquant:
      return decode_turboquant(codec, codes, scalars, n, out);
    case Kind::split:
      return decode_split(codec, codes, scalars, n, out);
    case Kind::trellis:
      return decode_trellis(codec, codes, scalars, n, out);
    case Kind::prod:
      return decode_prod(codec, codes, scalars, n, out);
    case Kind::signs:
      return decode_qjl(codec, codes, scalars, n, out);
    case Kind::polar:
      return decode_polar(codec, codes, scalars, n, out);
    case Kind::sketch:
      return decode_sketch(codec, codes, scalars, n, out);
  }
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
