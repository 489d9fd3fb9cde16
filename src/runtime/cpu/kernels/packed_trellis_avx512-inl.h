// Integer attention on packed trellis vectors with AVX-512 VNNI and VBMI; packed-inl.h has the meaning,
// trellis_rows-inl.h the places of levels. Shift bits and choices are gathered into qwords by transposing packed rows,
// so that a vpmultishiftqb takes the bit fields of 64 channels at once: three of them, two selections and a vpermb for
// 64 levels of 4 bits. Levels are exact in 8 bits; weights have 16 bits in two bytes, so that keys and values both take
// 64 products a vpdpbusd, values two of them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "codec/side_codec.h"
#include "codec/trellis/levels.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/lanes-inl.h"
#include "runtime/cpu/kernels/packed_avx512-inl.h"
#include "runtime/cpu/kernels/packed_tile-inl.h"
#include "runtime/cpu/kernels/trellis_rows-inl.h"

#ifdef TQKV_AVX512

namespace tqkv::cpu::TQKV_ISA::vec::packed {

/// Fields of the planes as they lie in the qwords below, and where they go in a place.
struct TrellisFields {
  __m512i window[6], choice[4];
  __m512i choice_mask, top_mask;
};

/// The place's bits: of the window, of the low bits of the choice and of its top bit.
template <int bits>
HWY_INLINE __m512i place_of(const TrellisFields& f, __m512i window, __m512i choice, __m512i top) {
  __m512i place = window;
  if constexpr (trellis::low_bits(bits) > 0) place = trellis::select(f.choice_mask, choice, place);
  if constexpr (trellis::has_top(bits)) place = trellis::select(f.top_mask, top, place);
  return place;
}

HWY_INLINE void set_masks(const codec::TrellisTable& table, TrellisFields& f) {
  const int low = (1 << trellis::low_bits(table.bits)) - 1;
  f.choice_mask = _mm512_set1_epi8(static_cast<char>(low << (table.memory + 1)));
  f.top_mask = _mm512_set1_epi8(static_cast<char>(1 << trellis::top_position(table.bits, table.memory)));
}

/// The levels as bytes from 0 on: code + 128.
HWY_INLINE trellis::ByteTable unsigned_levels(const codec::TrellisTable& table) {
  trellis::ByteTable out = trellis::byte_table(table);
  for (__m512i& part : out.part) part = _mm512_xor_si512(part, _mm512_set1_epi8(-128));
  return out;
}

/// The top bits of the choice are turned until their fields begin where the window's do.
template <int bits>
constexpr int top_turn = bits == 4 ? 3 : 1;

// ---- keys: a dword of a lane is a key, 32 channels of a plane of bits, 16 of pairs or 8 of nibbles

/// The same eight bytes in every qword, each `first` later.
HWY_INLINE __m512i fields_from(long long bytes, int first) {
  return _mm512_add_epi8(_mm512_set1_epi64(bytes), _mm512_set1_epi8(static_cast<char>(first)));
}

HWY_INLINE TrellisFields key_fields(const codec::TrellisTable& table) {
  TrellisFields f;
  const int m = table.memory;
  for (int g = 0; g < 6; ++g) f.window[g] = fields_from(0x2322212003020100, 8 + 4 * g - m);
  for (int g = 0; g < 4; ++g)
    f.choice[g] = table.bits == 5 ? fields_from(0x2c2824200c080400, 16 * (g % 2) - (m + 1))
                                  : fields_from(0x2624222006040200, 8 * g - (m + 1));
  set_masks(table, f);
  return f;
}

/// Packed rows of 16 keys to [dword of a row][key].
HWY_INLINE void transpose_rows(const Byte* codes, std::size_t stride, int key, int n, std::int32_t* tile) {
  const Byte* from[16];
  for (int r = 0; r < 16; ++r) from[r] = codes + static_cast<std::size_t>(smaller(key + r, n - 1)) * stride;
  const int dwords = static_cast<int>(stride / 4);
  for (int d = 0; d < dwords; d += 8) {
    const int count = smaller(8, dwords - d);
    const auto mask = static_cast<__mmask8>((1u << count) - 1);
    __m512i v[8];
    for (int r = 0; r < 8; ++r)
      v[r] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi32(mask, from[r] + 4 * d)),
                                _mm256_maskz_loadu_epi32(mask, from[8 + r] + 4 * d), 1);
    transpose8(v);
    for (int i = 0; i < count; ++i) _mm512_store_si512(tile + 16 * (d + i), v[i]);
  }
}

/// Calls use(g, levels) for channels 4 g to 4 g + 3 of 16 keys, g = first and the next of 8 in the sources given.
template <int bits, int parts, class Use>
HWY_INLINE void four_levels(const TrellisFields& f, const trellis::ByteTable& table, int g, int field, __m512i shift,
                            __m512i choice, __m512i top, Use use) {
  const __m512i window = _mm512_multishift_epi64_epi8(f.window[field], shift);
  const __m512i pair = trellis::low_bits(bits) > 0 ? _mm512_multishift_epi64_epi8(f.choice[g % 4], choice) : choice;
  const __m512i bit = trellis::has_top(bits) ? _mm512_multishift_epi64_epi8(f.window[field], top) : top;
  use(g, trellis::look_up<parts>(table, place_of<bits>(f, window, pair, bit)));
}

/// The same for all channels of a tile of transpose_rows.
template <int bits, int parts, class Use>
HWY_INLINE void all_levels(const TrellisFields& f, const trellis::ByteTable& table, const std::int32_t* tile, int dim,
                           Use use) {
  const std::int32_t *low = tile + 4 * trellis::low_plane(dim), *tops = tile + 4 * trellis::top_plane(bits, dim);
  __m512i before = _mm512_setzero_si512();
  for (int c = 0; c < dim; c += 32) {
    const __m512i shift = _mm512_load_si512(tile + c / 2), start = _mm512_shldi_epi32(shift, before, 8);
    before = shift;
    constexpr int choices = trellis::low_bits(bits) == 4 ? 4 : 2, each = 8 / choices;  // dwords, groups of channels
    __m512i choice[choices] = {}, top = {}, top_start = {};
    if constexpr (trellis::low_bits(bits) > 0)
      for (int i = 0; i < choices; ++i) choice[i] = _mm512_load_si512(low + choices * c / 2 + 16 * i);
    if constexpr (trellis::has_top(bits)) {
      const __m512i bit = _mm512_load_si512(tops + c / 2);
      top = _mm512_rol_epi64(bit, top_turn<bits>);
      top_start = _mm512_rol_epi64(bit, top_turn<bits> + 8);
    }
    const auto from_here = [&](int g, __m512i levels) __attribute__((always_inline)) {
      use(c + 4 * g, levels);
    };
    four_levels<bits, parts>(f, table, 0, 0, start, choice[0 / each], top_start, from_here);
    four_levels<bits, parts>(f, table, 1, 1, start, choice[1 / each], top_start, from_here);
    four_levels<bits, parts>(f, table, 2, 0, shift, choice[2 / each], top, from_here);
    four_levels<bits, parts>(f, table, 3, 1, shift, choice[3 / each], top, from_here);
    four_levels<bits, parts>(f, table, 4, 2, shift, choice[4 / each], top, from_here);
    four_levels<bits, parts>(f, table, 5, 3, shift, choice[5 / each], top, from_here);
    four_levels<bits, parts>(f, table, 6, 4, shift, choice[6 / each], top, from_here);
    four_levels<bits, parts>(f, table, 7, 5, shift, choice[7 / each], top, from_here);
  }
}

/// Scores of Q queries and the 16 keys of a tile.
template <int Q, int bits, int parts>
inline void trellis_score_stream(const Queries8& x, const std::int32_t* tile, const TrellisFields& f,
                                 const trellis::ByteTable& table, const KeyScales& keys, int row, int key, int dim,
                                 float* scores) {
  const auto* q = reinterpret_cast<const std::int8_t*>(x.q) + static_cast<std::ptrdiff_t>(row) * dim;
  __m512i sum[Q];
  for (int r = 0; r < Q; ++r) sum[r] = _mm512_set1_epi32(-128 * x.sum[row + r]);
  all_levels<bits, parts>(
      f, table, tile, dim, [&](int c, __m512i levels) __attribute__((always_inline)) {
        for (int r = 0; r < Q; ++r)
          sum[r] = _mm512_dpbusd_epi32(sum[r], levels, broadcast_four(q + static_cast<std::ptrdiff_t>(r) * dim + c));
      });
  for (int r = 0; r < Q; ++r)
    _mm512_storeu_ps(scores + 64 * (row + r) + key,
                     scaled_products<false>(x, keys, row + r, 0, key, sum[r], _mm512_setzero_ps()));
}

template <int bits, int parts>
inline void trellis_scores(const codec::TrellisTable& levels, const Byte* codes, std::size_t stride, int dim, int n,
                           const Queries8& x, const KeyScales& keys, const int* visible, float* scores, Byte* out) {
  alignas(64) std::int32_t tile[16 * codec::max_dim * 5 / 32];  // 16 rows of at most 5 bits a channel
  const TrellisFields f = key_fields(levels);
  const trellis::ByteTable table = unsigned_levels(levels);
  constexpr int most = 8;  // more queries would look up again, which a tile of levels saves
  const int end = end_of_rows(visible, x.queries, n);
  for (int key = 0; key < end; key += 16) {
    transpose_rows(codes, stride, key, n, tile);
    if (x.queries > most) {
      Byte* to = out + static_cast<std::ptrdiff_t>(key) * dim;
      all_levels<bits, parts>(
          f, table, tile,
          dim, [&](int c, __m512i four) __attribute__((always_inline)) { _mm512_store_si512(to + 16 * c, four); });
      continue;
    }
    for (int row = 0; row < x.queries;) {
      const int left = x.queries - row, rows = left >= 8 ? 8 : left >= 4 ? 4 : 1;
      if (key < end_of_rows(visible + row, rows, n)) {
        if (rows == 8)
          trellis_score_stream<8, bits, parts>(x, tile, f, table, keys, row, key, dim, scores);
        else if (rows == 4)
          trellis_score_stream<4, bits, parts>(x, tile, f, table, keys, row, key, dim, scores);
        else
          trellis_score_stream<1, bits, parts>(x, tile, f, table, keys, row, key, dim, scores);
      }
      row += rows;
    }
  }
  if (x.queries > most) score_tile<false>(x, out, keys, n, visible, dim, scores);
}

// ---- values: a qword of a lane is 16 bits of a plane of four tokens, twice: once a byte earlier

constexpr int trellis_chunk = 128;  // channels
/// With 5 bits four vectors of nibbles follow late and early.
enum TrellisSource { late, early, late_choice, early_choice, late_top, early_top, trellis_sources };

/// Lane q of vector v of a chunk has channels 16 q + 2 (v % 4) and the next, of four tokens each; from the upper 8 of
/// 16 when v >= 4.
HWY_INLINE int trellis_value_channel(int dim, int place) {
  const int start = place / trellis_chunk * trellis_chunk, lanes_used = smaller(16, (dim - start) / 8);
  const int vector = (place - start) / lanes_used, lane = (place - start) % lanes_used;
  return start + 16 * (lane / 2) + 8 * (vector / 4) + 2 * (vector % 4) + lane % 2;
}

HWY_INLINE TrellisFields value_fields(const codec::TrellisTable& table) {
  TrellisFields f;
  const int m = table.memory;
  for (int i = 0; i < 4; ++i) {  // byte t of dword x of a qword: token t, channel x
    f.window[i] = fields_from(0x3121110130201000, 8 + 2 * i - m);
    f.choice[i] = table.bits == 5 ? fields_from(0x3424140430201000, 8 * (i % 2) - (m + 1))
                                  : fields_from(0x3222120230201000, 4 * i - (m + 1));
  }
  f.window[4] = f.window[5] = f.window[0];
  set_masks(table, f);
  return f;
}

/// 16 bytes of each of four rows, one behind the other.
HWY_INLINE __m512i four_rows(const Byte* const (&row)[4], __mmask8 words, int offset) {
  const auto at = [&](int r) { return _mm_maskz_loadu_epi16(words, row[r] + offset); };
  const __m256i a = _mm256_inserti128_si256(_mm256_castsi128_si256(at(0)), at(1), 1),
                b = _mm256_inserti128_si256(_mm256_castsi128_si256(at(2)), at(3), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

/// The planes of a chunk of n values to [four tokens][source][lane].
template <int bits>
inline void gather_values(const Byte* codes, std::size_t stride, int dim, int start, int n, __m512i* sources) {
  // Word 4 q + t: of token t, word q of 8; word 2 q of 16.
  alignas(64) static constexpr std::uint16_t turned[32] = {0, 8,  16, 24, 1, 9,  17, 25, 2, 10, 18, 26, 3, 11, 19, 27,
                                                           4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31};
  const __m512i one = _mm512_load_si512(turned);
  const __m512i even = _mm512_slli_epi16(one, 1), odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
  const __m512i quarters = _mm512_set_epi16(60, 28, 60, 28, 56, 24, 56, 24, 52, 20, 52, 20, 48, 16, 48, 16, 44, 12, 44,
                                            12, 40, 8, 40, 8, 36, 4, 36, 4, 32, 0, 32, 0);
  const int words = smaller(8, (dim - start) / 16);
  const auto mask = static_cast<__mmask8>((1u << words) - 1);  // as many dwords of pairs, qwords of nibbles
  for (int j = 0; j < n; j += 4, sources += trellis_sources) {
    const Byte* row[4];
    for (int r = 0; r < 4; ++r) row[r] = codes + static_cast<std::size_t>(smaller(j + r, n - 1)) * stride;
    const __m512i shift = four_rows(row, mask, start / 8);
    const __m512i before = start ? four_rows(row, mask, start / 8 - 1) : _mm512_bslli_epi128(shift, 1);
    sources[late] = _mm512_permutexvar_epi16(one, shift);
    sources[early] = _mm512_permutexvar_epi16(one, before);
    if constexpr (trellis::low_bits(bits) == 4) {
      const auto nibbles = [&](int r) __attribute__((always_inline)) {
        return _mm512_maskz_loadu_epi64(mask, row[r] + trellis::low_plane(dim) + start / 2);
      };
      const __m512i a = nibbles(0), b = nibbles(1), c = nibbles(2), d = nibbles(3);
      for (int i = 0; i < 4; ++i) {  // word 4 q + i of each row to qword q
        const __m512i from = _mm512_add_epi16(quarters, _mm512_set1_epi16(static_cast<short>(i)));
        sources[late_choice + i] = _mm512_mask_blend_epi16(0xccccccccu, _mm512_permutex2var_epi16(a, from, b),
                                                           _mm512_permutex2var_epi16(c, from, d));
      }
    }
    if constexpr (trellis::low_bits(bits) == 2) {
      __m512i pair[2];
      for (int i = 0; i < 2; ++i) {
        const Byte *a = row[2 * i] + trellis::low_plane(dim) + start / 4,
                   *b = row[2 * i + 1] + trellis::low_plane(dim) + start / 4;
        pair[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi32(mask, a)),
                                     _mm256_maskz_loadu_epi32(mask, b), 1);
      }
      sources[late_choice] = _mm512_permutex2var_epi16(pair[0], odd, pair[1]);
      sources[early_choice] = _mm512_permutex2var_epi16(pair[0], even, pair[1]);
    }
    if constexpr (trellis::has_top(bits)) {
      const __m512i top =
          _mm512_permutexvar_epi16(one, four_rows(row, mask, trellis::top_plane(bits, dim) + start / 8));
      sources[late_top] = _mm512_rol_epi64(top, top_turn<bits>);
      sources[early_top] = _mm512_rol_epi64(top, top_turn<bits> + 8);
    }
  }
}

/// The levels of one vector of a chunk, four tokens each.
template <int bits, int parts>
HWY_INLINE __m512i levels_of(const __m512i* sources, const TrellisFields& f, const trellis::ByteTable& table,
                             int vector) {
  const int part = vector >= 4 ? late : early, i = vector % 4;
  const __m512i window = _mm512_multishift_epi64_epi8(f.window[i], sources[part]);
  const int of_choice = trellis::low_bits(bits) == 4 ? vector / 2 : part;
  const __m512i low = trellis::low_bits(bits) > 0
                          ? _mm512_multishift_epi64_epi8(f.choice[i], sources[late_choice + of_choice])
                          : window;
  const __m512i bit =
      trellis::has_top(bits) ? _mm512_multishift_epi64_epi8(f.window[i], sources[late_top + part]) : window;
  return trellis::look_up<parts>(table, place_of<bits>(f, window, low, bit));
}

/// Q queries and vector `vector` of a chunk: words are a high and a low byte, in planes of 64. levels_at(j): of tokens
/// j to j + 3.
template <int Q, class Levels>
HWY_INLINE void trellis_value_block(const ValueTile& x, int vector, int row, int n, float* output, int dim,
                                    Levels levels_at) {
  const auto* weights = reinterpret_cast<const std::int8_t*>(x.words + 64 * row);
  __m512i high[Q], sum[Q][1];
  for (int r = 0; r < Q; ++r) {
    high[r] = _mm512_setzero_si512();
    sum[r][0] = _mm512_set1_epi32(x.offset[row + r]);
  }
  for (int j = 0; j < n; j += 4, weights += 4) {
    const __m512i levels = levels_at(j);
    for (int r = 0; r < Q; ++r) {
      high[r] = _mm512_dpbusd_epi32(high[r], levels, broadcast_four(weights + 128 * r));
      sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], levels, broadcast_four(weights + 128 * r + 64));
    }
  }
  for (int r = 0; r < Q; ++r) sum[r][0] = _mm512_add_epi32(sum[r][0], _mm512_slli_epi32(high[r], 8));
  add_sums(x, sum, row, vector, output, dim);
}

template <class Levels>
HWY_INLINE void trellis_value_rows(const ValueTile& x, int vector, int queries, int n, const int* visible,
                                   float* output, int dim, Levels levels_at) {
  for (int row = 0; row < queries;) {
    const int left = queries - row, rows = left >= 8 ? 8 : left >= 4 ? 4 : 1;
    const int seen = end_of_rows(visible + row, rows, n);
    if (seen == 0) {
    } else if (rows == 8) {
      trellis_value_block<8>(x, vector, row, seen, output, dim, levels_at);
    } else if (rows == 4) {
      trellis_value_block<4>(x, vector, row, seen, output, dim, levels_at);
    } else {
      trellis_value_block<1>(x, vector, row, seen, output, dim, levels_at);
    }
    row += rows;
  }
}

/// One chunk of channels from `start` on. The tile has room for the sources of 64 values.
template <int bits, int parts>
inline void trellis_values(const codec::TrellisTable& levels, const Byte* codes, std::size_t stride, int dim, int start,
                           int n, int queries, const int* visible, ValueTile& x, float* output) {
  auto* sources = reinterpret_cast<__m512i*>(x.tile);
  const int end = end_of_rows(visible, queries, n);
  gather_values<bits>(codes, stride, dim, start, end, sources);
  const TrellisFields f = value_fields(levels);
  const trellis::ByteTable table = unsigned_levels(levels);
  x.lanes = smaller(16, (dim - start) / 8);
  output += start;
  constexpr int most = 8;  // for more queries levels are looked up once, for fewer beside the products
  alignas(64) std::int8_t tile[16 * 64];
  for (int vector = 0; vector < 8; ++vector) {
    if (queries <= most) {
      trellis_value_rows(
          x, vector, queries, n, visible, output, dim, [&](int j) __attribute__((always_inline)) {
            return levels_of<bits, parts>(sources + j / 4 * trellis_sources, f, table, vector);
          });
      continue;
    }
    for (int j = 0; j < end; j += 4)
      _mm512_store_si512(tile + 16 * j, levels_of<bits, parts>(sources + j / 4 * trellis_sources, f, table, vector));
    trellis_value_rows(
        x, vector, queries, n, visible, output,
        dim, [&](int j) __attribute__((always_inline)) { return _mm512_load_si512(tile + 16 * j); });
  }
}

constexpr float largest_trellis_weight = 32639;  // 256 high + low, low from -128 on

/// Weights of one query as quantize_weights has them, a byte in each plane, and -128 times their sum.
HWY_INLINE void quantize_trellis_weights(const float* p, const float* scale, int n, ValueTile& x, int row) {
  __m512 w[4], largest = _mm512_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    const int left = smaller(16, n - 16 * i);
    w[i] = left > 0 ? _mm512_maskz_loadu_ps(first_lanes(left), p + 16 * i) : _mm512_setzero_ps();
    w[i] = _mm512_mul_ps(w[i], _mm512_loadu_ps(scale + 16 * i));
    largest = _mm512_max_ps(largest, _mm512_abs_ps(w[i]));
  }
  const float most = _mm512_reduce_max_ps(largest);
  const __m512 to_words = _mm512_set1_ps(most > least_weight ? largest_trellis_weight / most : 0.0f);
  auto* out = reinterpret_cast<__m128i*>(x.words + 64 * row);
  __m512i sum = _mm512_setzero_si512();
  for (int i = 0; i < 4; ++i) {
    const __m512i word = _mm512_cvtps_epi32(_mm512_mul_ps(w[i], to_words));
    sum = _mm512_add_epi32(sum, word);
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(word, _mm512_set1_epi32(128)), 8);
    _mm_storeu_si128(out + i, _mm512_cvtepi32_epi8(high));
    _mm_storeu_si128(out + 4 + i, _mm512_cvtepi32_epi8(word));
  }
  x.factor[row] = most > least_weight ? most / largest_trellis_weight : 0.0f;
  x.bias[row] = 0.0f;
  x.offset[row] = -128 * _mm512_reduce_add_epi32(sum);
}

// ---- by format

template <int bits>
HWY_INLINE void trellis_scores_of(const codec::SideCodec& codec, const codec::TrellisTable& table, const Byte* codes,
                                  int n, const Queries8& x, const KeyScales& keys, const int* visible, float* scores,
                                  Byte* tile) {
  const std::size_t stride = codec.code_bytes;
  const int dim = codec.dim;
  if (table.levels <= 64) return trellis_scores<bits, 1>(table, codes, stride, dim, n, x, keys, visible, scores, tile);
  if (table.levels == 128) return trellis_scores<bits, 2>(table, codes, stride, dim, n, x, keys, visible, scores, tile);
  if constexpr (bits >= 4) trellis_scores<bits, 4>(table, codes, stride, dim, n, x, keys, visible, scores, tile);
}

HWY_INLINE void trellis_integer_scores(const codec::SideCodec& codec, const Byte* codes, int n, const Queries8& x,
                                       const KeyScales& keys, const int* visible, float* scores, Byte* tile) {
  const codec::TrellisTable& table = codec::trellis_table(codec.format.bits, codec.format.states);
  if (table.bits == 2) return trellis_scores_of<2>(codec, table, codes, n, x, keys, visible, scores, tile);
  if (table.bits == 3) return trellis_scores_of<3>(codec, table, codes, n, x, keys, visible, scores, tile);
  if (table.bits == 4) return trellis_scores_of<4>(codec, table, codes, n, x, keys, visible, scores, tile);
  trellis_scores_of<5>(codec, table, codes, n, x, keys, visible, scores, tile);
}

template <int bits>
HWY_INLINE void trellis_values_of(const codec::SideCodec& codec, const codec::TrellisTable& table, const Byte* codes,
                                  int start, int n, int queries, const int* visible, ValueTile& x, float* output) {
  const std::size_t stride = codec.code_bytes;
  const int dim = codec.dim;
  if (table.levels <= 64)
    return trellis_values<bits, 1>(table, codes, stride, dim, start, n, queries, visible, x, output);
  if (table.levels == 128)
    return trellis_values<bits, 2>(table, codes, stride, dim, start, n, queries, visible, x, output);
  if constexpr (bits >= 4) trellis_values<bits, 4>(table, codes, stride, dim, start, n, queries, visible, x, output);
}

HWY_INLINE void trellis_integer_values(const codec::SideCodec& codec, const Byte* codes, int start, int n, int queries,
                                       const int* visible, ValueTile& x, float* output) {
  const codec::TrellisTable& table = codec::trellis_table(codec.format.bits, codec.format.states);
  if (table.bits == 2) return trellis_values_of<2>(codec, table, codes, start, n, queries, visible, x, output);
  if (table.bits == 3) return trellis_values_of<3>(codec, table, codes, start, n, queries, visible, x, output);
  if (table.bits == 4) return trellis_values_of<4>(codec, table, codes, start, n, queries, visible, x, output);
  trellis_values_of<5>(codec, table, codes, start, n, queries, visible, x, output);
}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed

#endif
