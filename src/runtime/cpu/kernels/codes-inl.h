// The codes that formats are made of, to bytes and back, as src/codec has them: bf16, planes and streams of indices,
// affine groups, centroids (docs/formats.md has the layouts). Encoding reads 4 bytes a channel and takes two operations
// a threshold and vector; decoding writes 4 bytes a channel.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/float16.h"
#include "codec/side_codec.h"
#include "runtime/cpu/codec_calls.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/lookup-inl.h"
#include "runtime/cpu/kernels/simd-inl.h"
#include "tqkv/kv_format.h"

namespace tqkv::cpu::TQKV_ISA::vec {

using Kind = SideFormat::Kind;
using HalfTag = hn::Rebind<std::uint16_t, Tag>;
using WordTag = hn::RebindToUnsigned<Tag>;
using ByteTag = hn::Rebind<std::uint8_t, Tag>;

// ---- bf16

/// The bits of x rounded to bf16 (ties to even), in the upper half of each lane; lower halves are not cleared.
HWY_INLINE hn::Vec<WordTag> rounded_to_bf16(F x) {
  const WordTag words;
  const auto bits = hn::BitCast(words, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1));
  return hn::Add(hn::Add(bits, hn::Set(words, 0x7fff)), odd);
}

//   codes[i] = bf16(x[i])
inline void encode_bf16(const float* x, int dim, Byte* codes) {
  for_runs(static_cast<std::size_t>(dim), [=](std::size_t i, int n) {
    const auto half =
        hn::DemoteTo(HalfTag(), hn::BitCast(int_tag, hn::ShiftRight<16>(rounded_to_bf16(load_run(x + i, n)))));
    alignas(64) std::uint16_t out[lanes];
    hn::StoreU(half, HalfTag(), out);
    std::memcpy(codes + 2 * i, out, 2 * static_cast<std::size_t>(n));
  });
}

//   out[i] = codes[i] << 16
inline void decode_bf16(const Byte* codes, std::size_t n, float* out) {
  alignas(64) std::uint16_t in[lanes] = {};
  const auto widen = [](const std::uint16_t* halves) {
    return hn::BitCast(tag, hn::ShiftLeft<16>(hn::PromoteTo(WordTag(), hn::LoadU(HalfTag(), halves))));
  };
  std::size_t i = 0;
  for (; i + static_cast<std::size_t>(lanes) <= n; i += static_cast<std::size_t>(lanes)) {
    std::memcpy(in, codes + 2 * i, sizeof in);  // of a constant size: a load
    store(widen(in), out + i);
  }
  if (i < n) {
    std::memcpy(in, codes + 2 * i, 2 * (n - i));
    store_tail(widen(in), out + i, static_cast<int>(n - i));
  }
}

HWY_INLINE std::uint16_t bf16_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// ---- planes of indices

//   for i in n, a multiple of 8:  codes gets `width` bits of index[i] from bit `shift` on, the first channel lowest
template <int width>
HWY_INLINE void pack_plane(const Byte* index, int shift, int n, Byte* codes) {
  constexpr std::uint64_t each = 0x0101010101010101u;
  for (int i = 0; i < n; i += 8) {
    std::uint64_t w = (load_bits<std::uint64_t>(index + i) >> shift) & (each * ((1u << width) - 1));
    if constexpr (width == 1) {
      w = (w * 0x0102040810204080u) >> 56;  // bit 0 of byte j to bit j
    } else if constexpr (width == 2) {
      w = (w | w >> 6) & 0x000f000f000f000fu;
      w = (w | w >> 12) & 0x000000ff000000ffu;
      w |= w >> 24;
    } else if constexpr (width == 4) {
      w = (w | w >> 4) & 0x00ff00ff00ff00ffu;
      w = (w | w >> 8) & 0x0000ffff0000ffffu;
      w |= w >> 16;
    }
    std::memcpy(codes, &w, width);
    codes += width;
  }
}

HWY_INLINE void pack(int bits, const Byte* index, int n, Byte* codes) {
  switch (bits) {
    case 1:
      pack_plane<1>(index, 0, n, codes);
      break;
    case 2:
      pack_plane<2>(index, 0, n, codes);
      break;
    case 3:
      pack_plane<2>(index, 0, n, codes);
      pack_plane<1>(index, 2, n, codes + n / 4);
      break;
    case 4:
      pack_plane<4>(index, 0, n, codes);
      break;
    case 5:
      pack_plane<4>(index, 0, n, codes);
      pack_plane<1>(index, 4, n, codes + n / 2);
      break;
    default:
      std::memcpy(codes, index, static_cast<std::size_t>(n));
      break;
  }
}

// ---- streams of indices

/// The bytes of eight indices in the low bits of w, each `bits` bits of it, and back.
template <int bits>
HWY_INLINE std::uint64_t spread_bits(std::uint64_t w) {
  constexpr std::uint64_t each = 0x0101010101010101u * ((1u << bits) - 1);
#if defined(__BMI2__)
  return _pdep_u64(w, each);
#else
  std::uint64_t out = 0;
  for (int j = 0; j < 8; ++j) out |= (w << (j * (8 - bits))) & (each & (std::uint64_t{0xff} << (8 * j)));
  return out;
#endif
}
template <int bits>
HWY_INLINE std::uint64_t gather_bits(std::uint64_t w) {
  constexpr std::uint64_t each = 0x0101010101010101u * ((1u << bits) - 1);
#if defined(__BMI2__)
  return _pext_u64(w, each);
#else
  std::uint64_t out = 0;
  for (int j = 0; j < 8; ++j) out |= (w & (each & (std::uint64_t{0xff} << (8 * j)))) >> (j * (8 - bits));
  return out;
#endif
}

/// `bits` bytes at p in the low ones of a word: two loads, since a copy of 3, 5 or 6 bytes passes through the stack.
template <int bits>
HWY_INLINE std::uint64_t stream_word(const Byte* p) {
  static_assert(bits == 3 || bits == 5 || bits == 6);
  if constexpr (bits == 3)
    return static_cast<std::uint64_t>(load_bits<std::uint16_t>(p)) | static_cast<std::uint64_t>(p[2]) << 16;
  else if constexpr (bits == 5)
    return static_cast<std::uint64_t>(load_bits<std::uint32_t>(p)) | static_cast<std::uint64_t>(p[4]) << 32;
  else
    return static_cast<std::uint64_t>(load_bits<std::uint32_t>(p)) |
           static_cast<std::uint64_t>(load_bits<std::uint16_t>(p + 4)) << 32;
}

/// Calls f(i, index) for every vector of indices of channels i … i + lanes - 1 of n, a multiple of 16:
//   index[i] = bits i * b … i * b + b - 1 of codes, the lowest first
template <int bits, class Function>
HWY_INLINE void for_stream(const Byte* codes, int n, Function f) {
  for (int i = 0; i < n; i += 16, codes += 2 * bits) {
    const std::uint64_t low = spread_bits<bits>(stream_word<bits>(codes)),
                        high = spread_bits<bits>(stream_word<bits>(codes + bits));
#if HWY_MAX_BYTES == 64
    const hn::FixedTag<std::uint64_t, 2> two;
    f(i, hn::BitCast(ByteTag(), hn::InterleaveLower(two, hn::Set(two, low), hn::Set(two, high))));
#elif HWY_MAX_BYTES == 32
    const hn::FixedTag<std::uint64_t, 1> one;
    f(i, hn::BitCast(ByteTag(), hn::Set(one, low)));
    f(i + 8, hn::BitCast(ByteTag(), hn::Set(one, high)));
#else
    const hn::FixedTag<std::uint32_t, 1> one;
    for (int j = 0; j < 16; j += 4) {
      const std::uint64_t half = j < 8 ? low : high;
      f(i + j, hn::BitCast(ByteTag(), hn::Set(one, static_cast<std::uint32_t>(half >> (j % 8 * 8)))));
    }
#endif
  }
}

template <int bits>
HWY_INLINE void pack_stream(const Byte* index, int n, Byte* codes) {
  for (int i = 0; i < n; i += 8, codes += bits) {
    const std::uint64_t w = gather_bits<bits>(load_bits<std::uint64_t>(index + i));
    std::memcpy(codes, &w, bits);
  }
}

HWY_INLINE void pack_stream(int bits, const Byte* index, int n, Byte* codes) {
  switch (bits) {
    case 3:
      return pack_stream<3>(index, n, codes);
    case 5:
      return pack_stream<5>(index, n, codes);
    case 6:
      return pack_stream<6>(index, n, codes);
    default:  // a plane
      return pack(bits, index, n, codes);
  }
}

// ---- affine

/// Whether codes of 4 or 8 bits lie in groups of whole vectors.
HWY_INLINE bool fast_affine(const codec::SideCodec& codec) {
  return codec.format.group % 16 == 0 && (codec.format.bits == 4 || codec.format.bits == 8);
}

//   scale = (max - min) / bins with the edge of larger magnitude exact;  index = clamp(round((x - bias) / scale), 0,
//   bins)
// Groups are multiples of 16 channels.
template <bool as_bf16>
inline void encode_affine(int bits, int group, int dim, const float* x, Byte* codes, Byte* scalars) {
  const int groups = dim / group;
  const float bins = static_cast<float>((1 << bits) - 1);
  alignas(64) float values[codec::max_dim];
  alignas(64) Byte index[codec::max_dim];
  for (int g = 0; g < groups; ++g) {
    F smallest = set(HUGE_VALF), largest = set(-HUGE_VALF);
    for (int i = g * group; i < (g + 1) * group; i += lanes) {
      F v = load(x + i);
      if (as_bf16) v = hn::BitCast(tag, hn::And(rounded_to_bf16(v), hn::Set(WordTag(), 0xffff0000u)));
      store(v, values + i);
      smallest = hn::Min(smallest, v);
      largest = hn::Max(largest, v);
    }
    const float low = hn::GetLane(hn::MinOfLanes(tag, smallest)), high = hn::GetLane(hn::MaxOfLanes(tag, largest));
    const bool low_edge = fabsf(low) > fabsf(high);
    float scale = (high - low) / bins;
    if (!(scale > 1e-7f)) scale = 1e-7f;
    if (!low_edge) scale = -scale;
    const float edge = low_edge ? low : high;
    const float edge_code = rintf(edge / scale);
    float bias = 0.0f;
    if (edge_code != 0.0f) {
      scale = edge / edge_code;
      bias = edge;
    }
    for (int i = g * group; i < (g + 1) * group; i += lanes) {
      const F code = hn::Round(hn::Div(hn::Sub(load(values + i), set(bias)), set(scale)));
      const auto integer = hn::ConvertTo(int_tag, hn::Min(hn::Max(code, zero()), set(bins)));
      hn::StoreU(hn::DemoteTo(ByteTag(), integer), ByteTag(), index + i);
    }
    const std::uint16_t scale16 = bf16_of(scale), bias16 = bf16_of(bias);
    std::memcpy(scalars + 2 * g, &scale16, 2);
    std::memcpy(scalars + 2 * (groups + g), &bias16, 2);
  }
  pack_stream(bits, index, dim, codes);
}

/// The table scale * i + bias of an index of 2 or 4 bits.
template <int bits>
HWY_INLINE Table affine_table(F scale, F bias) {
  alignas(64) static constexpr float four[16] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
  Table table;
  for (int i = 0; i < table_vectors; ++i) {
    const F index = bits == 2 ? hn::Load(tag, four + i * lanes) : hn::Iota(tag, static_cast<float>(i * lanes));
    table.high[i] = table.low[i] = hn::MulAdd(scale, index, bias);
  }
  return table;
}

//   out[i] = scale * index[i] + bias; the product of 8 by 8 bits is exact, so that a fused multiply-add gives the same
//   bits
template <int bits>
inline void decode_affine(int group, int dim, const Byte* codes, const Byte* scalars, float* out) {
  const int groups = dim / group;
  for (int g = 0; g < groups; ++g, out += group, codes += group * bits / 8) {
    const F scale = set(bf16_at(scalars + 2 * g)), bias = set(bf16_at(scalars + 2 * (groups + g)));
    const auto store_values = [&](int i, hn::Vec<ByteTag> index) {
      store(hn::MulAdd(scale, hn::ConvertTo(tag, hn::PromoteTo(int_tag, index)), bias), out + i);
    };
    if constexpr (bits == 2 || bits == 4)
      look_up<bits, false>(affine_table<bits>(scale, bias), codes, nullptr, group, out);
    else if constexpr (bits == 8)
      for (int i = 0; i < group; i += lanes) store_values(i, hn::LoadU(ByteTag(), codes + i));
    else
      for_stream<bits>(codes, group, store_values);
  }
}

HWY_INLINE void decode_affine(int bits, int group, int dim, const Byte* codes, const Byte* scalars, float* out) {
  switch (bits) {
    case 2:
      return decode_affine<2>(group, dim, codes, scalars, out);
    case 3:
      return decode_affine<3>(group, dim, codes, scalars, out);
    case 4:
      return decode_affine<4>(group, dim, codes, scalars, out);
    case 5:
      return decode_affine<5>(group, dim, codes, scalars, out);
    case 6:
      return decode_affine<6>(group, dim, codes, scalars, out);
    default:
      return decode_affine<8>(group, dim, codes, scalars, out);
  }
}

// ---- turboquant

/// sum of x[i]^2 in double: no f32 overflows or vanishes in it.
HWY_INLINE double sum_of_squares(const float* x, int dim) {
  const hn::Rebind<double, hn::Half<Tag>> doubles;
  const hn::Half<Tag> half;
  constexpr int step = lanes / 2;
  auto sum0 = hn::Zero(doubles), sum1 = hn::Zero(doubles);
  for (int i = 0; i < dim; i += 2 * step) {
    const auto a = hn::PromoteTo(doubles, hn::LoadU(half, x + i)),
               b = hn::PromoteTo(doubles, hn::LoadU(half, x + i + step));
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  return hn::GetLane(hn::SumOfLanes(doubles, hn::Add(sum0, sum1)));
}

/// Rounds to f16; beyond 65504 it stays there.
HWY_INLINE void store_f16(double value, Byte* to) {
  constexpr double largest_f16 = 65504.0;
  const std::uint16_t half = f32_to_f16(static_cast<float>(value < largest_f16 ? value : largest_f16));
  std::memcpy(to, &half, 2);
}

/// What codes of one bit stand for: `size` or its negative.
//   out[i] = bit i of codes ? size : -size; n is a multiple of 16
HWY_INLINE void look_up_signs(const Byte* codes, int n, float size, float* out) {
  alignas(64) static constexpr std::uint32_t to_sign[16] = {31, 30, 29, 28, 27, 26, 25, 24,
                                                            23, 22, 21, 20, 19, 18, 17, 16};
  const WordTag words;
  const auto shifts = hn::Load(words, to_sign), top = hn::Set(words, 0x80000000u),
             negative = hn::BitCast(words, set(-size));
  for (int i = 0; i < n; i += lanes) {
    std::uint32_t bits;
    if constexpr (lanes == 16)
      bits = load_bits<std::uint16_t>(codes + i / 8);
    else
      bits = static_cast<std::uint32_t>(codes[i / 8] >> (i % 8));
    const auto sign = hn::And(hn::Shl(hn::Set(words, bits), shifts), top);
    store(hn::BitCast(tag, hn::Xor(negative, sign)), out + i);
  }
}

/// Centroids of a vector or of a part of one.
struct Centroids {
  int bits = 0;
  float positive = 0;  // 1 bit: the centroid above 0
  Table table;         // 2 to 5 bits
};

HWY_INLINE Centroids centroids_of(int bits) {
  const float* entries = centroid_table(bits);
  return bits == 1 ? Centroids{bits, entries[1], Table()} : Centroids{bits, 0, table_of(entries, bits)};
}

//   out[i] = centroid[index[i]] * factor
HWY_INLINE void look_up(const Centroids& centroids, float factor, const Byte* codes, int dim, float* out) {
  if (centroids.bits == 1)
    look_up_signs(codes, dim, centroids.positive * factor, out);
  else
    look_up(times(centroids.table, factor), centroids.bits, codes, dim, out);
}

//   z = y sqrt(dim) / |y|;  index[i] = number of thresholds below z[i];  scalar from |y|, <z, c> and <c, c>, c the
//   centroids taken
/// Returns |y|; 0, and has written nothing, where y is zero or a factor beyond f32.
inline double encode_part(const Centroids& centroids, KvScalar kind, const float* y, int dim, Byte* codes,
                          Byte* scalars) {
  const int bits = centroids.bits, count = (1 << bits) - 1;
  const double squares = sum_of_squares(y, dim);
  if (!(squares > 1e-50 && squares < 1e50)) return 0;
  const double norm = sqrt(squares);
  const F to_normal = set(static_cast<float>(sqrt(static_cast<double>(dim)) / norm));
  const float* thresholds = threshold_table(bits);
  alignas(64) Byte index[codec::max_dim];
  for (int i = 0; i < dim; i += 2 * lanes) {
    const bool both = i + lanes < dim;
    const F a = hn::Mul(load(y + i), to_normal), b = both ? hn::Mul(load(y + i + lanes), to_normal) : a;
    auto index_a = hn::Zero(int_tag), index_b = index_a;
    for (int t = 0; t < count; ++t) {
      const F threshold = set(thresholds[t]);
      index_a = hn::Sub(index_a, hn::VecFromMask(int_tag, hn::RebindMask(int_tag, hn::Gt(a, threshold))));
      index_b = hn::Sub(index_b, hn::VecFromMask(int_tag, hn::RebindMask(int_tag, hn::Gt(b, threshold))));
    }
    hn::StoreU(hn::DemoteTo(ByteTag(), index_a), ByteTag(), index + i);
    if (both) hn::StoreU(hn::DemoteTo(ByteTag(), index_b), ByteTag(), index + i + lanes);
  }
  pack(bits, index, dim, codes);

  double scalar = norm;
  if (kind != KvScalar::norm) {
    alignas(64) float c[codec::max_dim];
    look_up(centroids, 1.0f, codes, dim, c);
    const double centroid_squares = static_cast<double>(dot(c, c, dim));
    const double products = static_cast<double>(dot(y, c, dim)) * sqrt(static_cast<double>(dim)) / norm;
    const double d = static_cast<double>(dim);
    switch (kind) {
      case KvScalar::norm:
        break;
      case KvScalar::corrected:
        scalar = norm / sqrt(centroid_squares / d);
        break;
      case KvScalar::unbiased:
        scalar = norm * d / products;
        break;
      case KvScalar::best:
        scalar = norm * products / centroid_squares;
        break;
    }
  }
  store_f16(scalar, scalars);
  return norm;
}

HWY_INLINE float f16_at(const std::byte* p) {
  std::uint16_t bits;
  std::memcpy(&bits, p, 2);
#if defined(__F16C__)
  return _cvtsh_ss(bits);
#else
  return f16_to_f32(bits);
#endif
}

/// out[i] = the f16 at halves + 2 i
HWY_INLINE void load_f16(const Byte* halves, int n, float* out) {
  int i = 0;
#if defined(__F16C__) && HWY_MAX_BYTES == 64
  for (; i + 16 <= n; i += 16)
    _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves + 2 * i))));
#endif
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + 2 * i))));
#endif
  for (; i < n; ++i) out[i] = f16_at(reinterpret_cast<const std::byte*>(halves + 2 * i));
}

//   out[i] = centroid[index[i]] * (scalar / sqrt(dim))
template <int width, bool has_top>
inline void decode_turboquant(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                              float* out) {
  const Table centroids = table_of(centroid_table(codec.format.bits), codec.format.bits);
  const float root = sqrtf(static_cast<float>(codec.dim));
  for (int i = 0; i < n; ++i, codes += codec.code_bytes, scalars += 2, out += codec.dim)
    look_up<width, has_top>(times(centroids, f16_at(scalars) / root), bytes(codes),
                            bytes(codes) + codec.dim * width / 8, codec.dim, out);
}

inline void decode_turboquant(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                              float* out) {
  switch (codec.format.bits) {
    case 2:
      return decode_turboquant<2, false>(codec, codes, scalars, n, out);
    case 3:
      return decode_turboquant<2, true>(codec, codes, scalars, n, out);
    case 4:
      return decode_turboquant<4, false>(codec, codes, scalars, n, out);
    default:
      return decode_turboquant<4, true>(codec, codes, scalars, n, out);
  }
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
