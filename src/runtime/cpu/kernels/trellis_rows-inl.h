// One packed trellis vector to the codes of its levels, 8 bits each:
//   for c in channels:  out[c] = code[last memory + 1 shift bits at c, choice at c]
// The stored order of codes has the newest shift bit of a window highest, so that a window is a bit field of the plane
// as it lies: bits c - memory to c. The choice's bits lie above it. About 12 operations a vector of bytes with AVX-512
// and 64 levels, 27 with AVX2, 20 with NEON.
#pragma once
#include <cstdint>

#include "codec/trellis/levels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"

namespace tqkv::cpu::TQKV_ISA::vec {

namespace trellis {

/// Bits of the choice in the plane of its low bits, and whether a plane of the top bit follows: with 2 bits it is the
/// only one.
constexpr int low_bits(int bits) {
  return bits == 2 ? 0 : bits == 5 ? 4 : 2;
}
constexpr bool has_top(int bits) {
  return bits == 2 || bits == 4;
}
/// Where these planes begin, bytes from a vector's first, for dim channels.
HWY_INLINE int low_plane(int dim) {
  return dim / 8;
}
HWY_INLINE int top_plane(int bits, int dim) {
  return bits == 4 ? dim / 8 + dim / 4 : dim / 8;
}
/// Where the choice's top bit stands in a place of the stored order.
HWY_INLINE int top_position(int bits, int memory) {
  return bits == 4 ? memory + 3 : memory + 1;
}

#ifdef TQKV_AVX512

/// The codes as a table for bytes: 64 a vector.
struct ByteTable {
  __m512i part[4];
};

HWY_INLINE ByteTable byte_table(const codec::TrellisTable& table) {
  ByteTable out;
  for (int i = 0; i < 4; ++i) out.part[i] = _mm512_load_si512(table.stored_order + 64 * i);
  return out;
}

/// Of a table of 64, 128 or 256 levels; smaller ones stand there several times, so that bits above the place do not
/// matter.
template <int parts>
HWY_INLINE __m512i look_up(const ByteTable& table, __m512i place) {
  if constexpr (parts == 1) return _mm512_permutexvar_epi8(place, table.part[0]);
  const __m512i low = _mm512_permutex2var_epi8(table.part[0], place, table.part[1]);
  if constexpr (parts == 2) return low;
  const __m512i high = _mm512_permutex2var_epi8(table.part[2], place, table.part[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(place), low, high);
}

HWY_INLINE __m512i select(__m512i mask, __m512i a, __m512i b) {
  return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

/// Bytes first + step i for byte i of each qword.
HWY_INLINE __m512i byte_steps(int first, int step) {
  alignas(8) std::uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<std::uint8_t>(first + step * i);
  return _mm512_set1_epi64(load_bits<long long>(bytes));
}

struct Rows {
  const codec::TrellisTable* from;
  ByteTable table;
  __m512i pairs, window, choice, top;  // fields of a qword that holds 8 channels; the window's with a byte before them
  __m512i choice_mask, top_mask;
};

HWY_INLINE Rows rows_of(const codec::TrellisTable& table) {
  const int m = table.memory, top = top_position(table.bits, m);
  Rows rows;
  rows.from = &table;
  rows.table = byte_table(table);
  // Qword q of a chunk takes bytes q and q + 1 of 16 that begin with the one before the chunk.
  alignas(64) std::uint8_t pairs[64];
  for (int i = 0; i < 64; ++i) pairs[i] = static_cast<std::uint8_t>(i % 8 < 2 ? i / 8 + i % 8 : 128);
  rows.pairs = _mm512_load_si512(pairs);
  rows.window = byte_steps(8 - m, 1);
  rows.choice = byte_steps(-(m + 1), low_bits(table.bits));
  rows.top = byte_steps(-top, 1);
  rows.choice_mask = _mm512_set1_epi8(static_cast<char>(((1 << low_bits(table.bits)) - 1) << (m + 1)));
  rows.top_mask = _mm512_set1_epi8(static_cast<char>(1 << top));
  return rows;
}

template <int bits, int parts>
HWY_INLINE void row_levels(const Rows& rows, const Byte* codes, int dim, std::int8_t* out) {
  for (int c = 0; c < dim; c += 64) {
    const __m128i plane = c ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + c / 8 - 1))
                            : _mm_bslli_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)), 1);
    __m512i place =
        _mm512_multishift_epi64_epi8(rows.window, _mm512_shuffle_epi8(_mm512_broadcast_i32x4(plane), rows.pairs));
    if constexpr (low_bits(bits) == 2) {
      const auto* low = reinterpret_cast<const __m128i*>(codes + low_plane(dim) + c / 4);
      const __m512i choice = _mm512_cvtepu16_epi64(_mm_loadu_si128(low));
      place = select(rows.choice_mask, _mm512_multishift_epi64_epi8(rows.choice, choice), place);
    }
    if constexpr (low_bits(bits) == 4) {
      const auto* low = reinterpret_cast<const __m256i*>(codes + low_plane(dim) + c / 2);
      const __m512i choice = _mm512_cvtepu32_epi64(_mm256_loadu_si256(low));
      place = select(rows.choice_mask, _mm512_multishift_epi64_epi8(rows.choice, choice), place);
    }
    if constexpr (has_top(bits)) {
      const auto* top = reinterpret_cast<const __m128i*>(codes + top_plane(bits, dim) + c / 8);
      const __m512i choice = _mm512_cvtepu8_epi64(_mm_loadl_epi64(top));
      place = select(rows.top_mask, _mm512_multishift_epi64_epi8(rows.top, choice), place);
    }
    _mm512_storeu_si512(out + c, look_up<parts>(rows.table, place));
  }
}

template <int bits>
HWY_INLINE void row_levels_of(const Rows& rows, const Byte* codes, int dim, std::int8_t* out) {
  if (rows.from->levels <= 64) return row_levels<bits, 1>(rows, codes, dim, out);
  if (rows.from->levels == 128) return row_levels<bits, 2>(rows, codes, dim, out);
  if constexpr (bits >= 4) row_levels<bits, 4>(rows, codes, dim, out);
}

#elif defined(TQKV_AVX2)

struct Rows {
  const codec::TrellisTable* from;
  __m256i part[16];            // 16 codes in each half
  __m256i first, second;       // pairs of bytes of 8 channels and those before them: blocks 0, 2 and 1, 3 of 32
  __m256i scale, window_mask;  // a product's upper half is a shift
  __m256i top_mask;
  __m128i choice_shift;
};

HWY_INLINE Rows rows_of(const codec::TrellisTable& table) {
  const int m = table.memory;
  Rows rows;
  rows.from = &table;
  for (int i = 0; i < 16; ++i)
    rows.part[i] =
        _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table.stored_order + 16 * i)));
  alignas(32) std::uint8_t pairs[2][32];
  alignas(32) std::uint16_t scale[16];
  for (int i = 0; i < 32; ++i)
    for (int p = 0; p < 2; ++p) pairs[p][i] = static_cast<std::uint8_t>(i / 16 * 2 + p + i % 2);
  for (int i = 0; i < 16; ++i) scale[i] = static_cast<std::uint16_t>(1u << (8 - i % 8 + m));
  rows.first = _mm256_load_si256(reinterpret_cast<const __m256i*>(pairs[0]));
  rows.second = _mm256_load_si256(reinterpret_cast<const __m256i*>(pairs[1]));
  rows.scale = _mm256_load_si256(reinterpret_cast<const __m256i*>(scale));
  rows.window_mask = _mm256_set1_epi16(static_cast<short>((2 << m) - 1));
  rows.top_mask = _mm256_set1_epi8(static_cast<char>(1 << top_position(table.bits, m)));
  rows.choice_shift = _mm_cvtsi32_si128(m + 1);
  return rows;
}

/// Entries of 16 << levels codes from part[0] on, by the low 4 + levels bits of a place.
template <int levels>
HWY_INLINE __m256i look_up(const __m256i* part, __m256i low, __m256i place) {
  if constexpr (levels == 0) {
    return _mm256_shuffle_epi8(part[0], low);
  } else {
    const __m256i a = look_up<levels - 1>(part, low, place),
                  b = look_up<levels - 1>(part + (1 << (levels - 1)), low, place);
    return _mm256_blendv_epi8(a, b, _mm256_slli_epi16(place, 4 - levels));  // bit 3 + levels of each byte to its sign
  }
}

/// The codes of 32 channels from c on, a multiple of 32.
template <int bits, int levels>
HWY_INLINE __m256i levels_at(const Rows& rows, const Byte* codes, int dim, int c) {
  // Bytes from the one before the 32 channels on; 8 that lie in the row are read.
  const auto plane = c ? load_bits<std::uint64_t>(codes + c / 8 - 1) : load_bits<std::uint64_t>(codes) << 8;
  const __m256i all = _mm256_set1_epi64x(static_cast<long long>(plane));
  const __m256i a = _mm256_mulhi_epu16(_mm256_shuffle_epi8(all, rows.first), rows.scale),
                b = _mm256_mulhi_epu16(_mm256_shuffle_epi8(all, rows.second), rows.scale);
  __m256i place = _mm256_packus_epi16(_mm256_and_si256(a, rows.window_mask), _mm256_and_si256(b, rows.window_mask));
  if constexpr (low_bits(bits) == 2) {
    __m256i choice =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + low_plane(dim) + c / 4)));
    choice = _mm256_or_si256(choice, _mm256_slli_epi32(choice, 12));
    choice = _mm256_and_si256(_mm256_or_si256(choice, _mm256_slli_epi32(choice, 6)), _mm256_set1_epi8(3));
    place = _mm256_or_si256(place, _mm256_sll_epi16(choice, rows.choice_shift));
  }
  if constexpr (low_bits(bits) == 4) {
    __m256i choice =
        _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + low_plane(dim) + c / 2)));
    choice = _mm256_and_si256(_mm256_or_si256(choice, _mm256_slli_epi16(choice, 4)), _mm256_set1_epi8(15));
    place = _mm256_or_si256(place, _mm256_sll_epi16(choice, rows.choice_shift));
  }
  if constexpr (has_top(bits)) {
    const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
    const __m256i bytes = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i plane_bits = _mm256_set1_epi32(load_bits<int>(codes + top_plane(bits, dim) + c / 8));
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(plane_bits, bytes), bit), bit);
    place = _mm256_or_si256(place, _mm256_and_si256(set, rows.top_mask));
  }
  const __m256i low = _mm256_and_si256(place, _mm256_set1_epi8(15));
  return look_up<levels>(rows.part, low, place);
}

template <int bits, int levels>
HWY_INLINE void row_levels(const Rows& rows, const Byte* codes, int dim, std::int8_t* out) {
  for (int c = 0; c < dim; c += 32)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + c), levels_at<bits, levels>(rows, codes, dim, c));
}

template <int bits>
HWY_INLINE void row_levels_of(const Rows& rows, const Byte* codes, int dim, std::int8_t* out) {
  if (rows.from->levels <= 64) return row_levels<bits, 2>(rows, codes, dim, out);
  if (rows.from->levels == 128) return row_levels<bits, 3>(rows, codes, dim, out);
  if constexpr (bits >= 4) row_levels<bits, 4>(rows, codes, dim, out);
}

#elif defined(TQKV_NEON)

struct Rows {
  const codec::TrellisTable* from;
  int8x16x4_t part[4];
  int16x8_t window;  // shifts to the right, negative
  uint8x16_t window_mask, top_mask;
  int8x16_t choice_shift;
};

HWY_INLINE Rows rows_of(const codec::TrellisTable& table) {
  const int m = table.memory;
  Rows rows;
  rows.from = &table;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) rows.part[i].val[j] = vld1q_s8(table.stored_order + 64 * i + 16 * j);
  std::int16_t window[8];
  for (int i = 0; i < 8; ++i) window[i] = static_cast<std::int16_t>(m - 8 - i);
  rows.window = vld1q_s16(window);
  rows.window_mask = vdupq_n_u8(static_cast<std::uint8_t>((2 << m) - 1));
  rows.top_mask = vdupq_n_u8(static_cast<std::uint8_t>(1 << top_position(table.bits, m)));
  rows.choice_shift = vdupq_n_s8(static_cast<std::int8_t>(m + 1));
  return rows;
}

/// The codes of 16 channels from c on, a multiple of 16. `parts`: of 64 codes.
template <int bits, int parts>
HWY_INLINE int8x16_t levels_at(const Rows& rows, const Byte* codes, int dim, int c) {
  const auto plane = c ? load_bits<std::uint32_t>(codes + c / 8 - 1) : load_bits<std::uint32_t>(codes) << 8;
  const uint16x8_t a = vdupq_n_u16(static_cast<std::uint16_t>(plane)),
                   b = vdupq_n_u16(static_cast<std::uint16_t>(plane >> 8));
  uint8x16_t place = vcombine_u8(vmovn_u16(vshlq_u16(a, rows.window)), vmovn_u16(vshlq_u16(b, rows.window)));
  place = vandq_u8(place, rows.window_mask);
  if constexpr (low_bits(bits) == 2) {
    alignas(16) static constexpr std::uint8_t byte[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    alignas(16) static constexpr std::int8_t shift[16] = {0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6, 0, -2, -4, -6};
    const uint8x16_t four = vreinterpretq_u8_u32(vdupq_n_u32(load_bits<std::uint32_t>(codes + low_plane(dim) + c / 4)));
    const uint8x16_t choice = vandq_u8(vshlq_u8(vqtbl1q_u8(four, vld1q_u8(byte)), vld1q_s8(shift)), vdupq_n_u8(3));
    place = vorrq_u8(place, vshlq_u8(choice, rows.choice_shift));
  }
  if constexpr (low_bits(bits) == 4) {
    const uint8x8_t two = vld1_u8(codes + low_plane(dim) + c / 2);
    const uint8x8x2_t choice = vzip_u8(vand_u8(two, vdup_n_u8(15)), vshr_n_u8(two, 4));
    place = vorrq_u8(place, vshlq_u8(vcombine_u8(choice.val[0], choice.val[1]), rows.choice_shift));
  }
  if constexpr (has_top(bits)) {
    alignas(16) static constexpr std::uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const Byte* top = codes + top_plane(bits, dim) + c / 8;
    const uint8x16_t both = vcombine_u8(vdup_n_u8(top[0]), vdup_n_u8(top[1]));
    place = vorrq_u8(place, vandq_u8(vtstq_u8(both, vld1q_u8(bit)), rows.top_mask));
  }
  int8x16_t level = vqtbl4q_s8(rows.part[0], place);  // 0 beyond 63, where the next parts answer
  for (int i = 1; i < parts; ++i)
    level = vqtbx4q_s8(level, rows.part[i], vsubq_u8(place, vdupq_n_u8(static_cast<std::uint8_t>(64 * i))));
  return level;
}

template <int bits, int parts>
HWY_INLINE void row_levels(const Rows& rows, const Byte* codes, int dim, std::int8_t* out) {
  for (int c = 0; c < dim; c += 16)
    vst1q_s8(out + c, (levels_at<bits, parts>(rows, codes, dim, c)));  // a macro for clang
}

template <int bits>
HWY_INLINE void row_levels_of(const Rows& rows, const Byte* codes, int dim, std::int8_t* out) {
  if (rows.from->levels <= 64) return row_levels<bits, 1>(rows, codes, dim, out);
  if (rows.from->levels == 128) return row_levels<bits, 2>(rows, codes, dim, out);
  if constexpr (bits >= 4) row_levels<bits, 4>(rows, codes, dim, out);
}

#else

struct Rows {
  const codec::TrellisTable* from;
};
HWY_INLINE Rows rows_of(const codec::TrellisTable& table) {
  return {&table};
}

template <int bits>
HWY_INLINE void row_levels_of(const Rows&, const Byte*, int, std::int8_t*) {}

#endif

/// Channels that a row must be a multiple of for the vectors above.
constexpr int row_channels = HWY_MAX_BYTES == 64 ? 64 : HWY_MAX_BYTES == 32 ? 32 : 16;
#ifdef TQKV_PLAIN
constexpr bool row_vectors = false;
#else
constexpr bool row_vectors = true;
#endif

/// The codes of the levels of one vector.
inline void row_levels(const Rows& rows, const Byte* codes, int dim, std::int8_t* out) {
  const codec::TrellisTable& table = *rows.from;
  if (row_vectors && dim % row_channels == 0) {
    if (table.bits == 2) return row_levels_of<2>(rows, codes, dim, out);
    if (table.bits == 3) return row_levels_of<3>(rows, codes, dim, out);
    if (table.bits == 4) return row_levels_of<4>(rows, codes, dim, out);
    return row_levels_of<5>(rows, codes, dim, out);
  }
  const Byte *low = codes + low_plane(dim), *top = codes + top_plane(table.bits, dim);
  const int memory = table.memory, window_mask = 2 * table.states - 1, top_shift = top_position(table.bits, memory);
  const int width = low_bits(table.bits);
  int plane = 0;  // the byte of shift bits before and that of the next 8 channels
  for (int c = 0; c < dim; c += 8, out += 8) {
    plane = plane >> 8 | codes[c / 8] << 8;
    unsigned lows = 0;
    if (width == 2) lows = load_bits<std::uint16_t>(low + c / 4);
    if (width == 4) lows = load_bits<std::uint32_t>(low + c / 2);
    const int tops = has_top(table.bits) ? top[c / 8] : 0;
    for (int i = 0; i < 8; ++i) {
      const int window = (plane >> (8 - memory + i)) & window_mask;
      const int choice = static_cast<int>((lows >> (width * i)) & ((1u << width) - 1)) << (memory + 1) |
                         ((tops >> i) & 1) << top_shift;
      out[i] = table.stored_order[window | choice];
    }
  }
}

}  // namespace trellis

}  // namespace tqkv::cpu::TQKV_ISA::vec
