// Integer attention on packed vectors with AVX2; packed-inl.h has the meaning. Keys and values are words: vpmaddubsw
// takes bytes but saturates, and keeping it from that costs what it saves. Keys: a lane is a key, two channels a dword.
// Values: a lane is a channel, two tokens a dword. A vpmaddwd and an addition for 16 products; about five operations
// unpack such a vector.
#pragma once
#include <cstddef>
#include <cstdint>

#include "codec/side_codec.h"
#include "codec/trellis/levels.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/codes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/lanes-inl.h"
#include "runtime/cpu/kernels/packed_tile-inl.h"
#include "runtime/cpu/kernels/simd-inl.h"
#include "runtime/cpu/kernels/trellis_rows-inl.h"

#ifdef TQKV_AVX2

namespace tqkv::cpu::TQKV_ISA::vec::packed {

constexpr bool integer_keys = true, integer_values = true;
constexpr std::size_t key_bytes = 2;  // of a channel in a tile
constexpr std::size_t value_tile_bytes = 4 * 32 * 32;
using QueryWord = std::int16_t;

/// Indices of the 32 channels of one row from `channel` on.
template <int bits>
HWY_INLINE __m256i load_row(const Byte* row, int dim, int channel) {
  if constexpr (bits == 8) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + channel));
  constexpr int width = bits < 4 ? 2 : 4;
  __m256i index;
  if constexpr (width == 4) {
    index = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + channel / 2)));
    index = _mm256_and_si256(_mm256_or_si256(index, _mm256_slli_epi16(index, 4)), _mm256_set1_epi8(15));
  } else {
    index = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + channel / 4)));
    index = _mm256_or_si256(index, _mm256_slli_epi32(index, 12));
    index = _mm256_and_si256(_mm256_or_si256(index, _mm256_slli_epi32(index, 6)), _mm256_set1_epi8(3));
  }
  if constexpr (bits != width) {
    const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
    const __m256i bytes = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i plane = _mm256_set1_epi32(load_bits<int>(row + dim * width / 8 + channel / 8));
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(plane, bytes), bit), bit);
    index = _mm256_or_si256(index, _mm256_and_si256(set, _mm256_set1_epi8(1 << width)));
  }
  return index;
}

/// 32 entries of a byte each, 16 where no index is larger.
struct ByteTable {
  __m256i low, high;
};
HWY_INLINE ByteTable byte_table(const std::int8_t* entries) {
  return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries))),
          _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries + 16)))};
}
template <int bits>
HWY_INLINE __m256i look_up_bytes(const ByteTable& table, __m256i index) {
  const __m256i low = _mm256_shuffle_epi8(table.low, index);
  if constexpr (bits < 5) return low;
  return _mm256_blendv_epi8(low, _mm256_shuffle_epi8(table.high, index), _mm256_slli_epi16(index, 3));
}

template <int n>
struct Number {
  static constexpr int value = n;
};

// ---- keys

/// Channel at place `place` of a query: words come from the even bytes of four channels, then from the odd ones.
HWY_INLINE int key_channel(const codec::SideCodec&, int place) {
  const int in = place % 4;
  return place - in + (in % 2) * 2 + in / 2;
}

/// 32 channels of 8 keys, a row each, to tile [two channels][key][channel] of words.
template <bool with_sign>
HWY_INLINE void store_keys(__m256i (&v)[8], Byte* tile) {
  transpose_lanes(v);
  for (int i = 0; i < 8; ++i, tile += 64) {
    const __m256i even =
        with_sign ? _mm256_srai_epi16(_mm256_slli_epi16(v[i], 8), 8) : _mm256_and_si256(v[i], _mm256_set1_epi16(255));
    const __m256i odd = with_sign ? _mm256_srai_epi16(v[i], 8) : _mm256_srli_epi16(v[i], 8);
    _mm256_store_si256(reinterpret_cast<__m256i*>(tile), even);
    _mm256_store_si256(reinterpret_cast<__m256i*>(tile + 32), odd);
  }
}

/// n keys to tile [block of 8 keys][two channels][key][channel] of words.
template <int bits, bool look_up>
inline void unpack_keys(const Byte* codes, std::size_t stride, int dim, int n, const std::int8_t* entries, Byte* tile) {
  ByteTable table = {};
  if constexpr (look_up) table = byte_table(entries);
  for (int key = 0; key < n; key += 8)
    for (int channel = 0; channel < dim; channel += 32, tile += 512) {
      __m256i v[8];
      for (int r = 0; r < 8; ++r) {
        v[r] = load_row<bits>(codes + static_cast<std::size_t>(smaller(key + r, n - 1)) * stride, dim, channel);
        if constexpr (look_up) v[r] = look_up_bytes<bits>(table, v[r]);
      }
      store_keys<look_up>(v, tile);
    }
}

/// The same of trellis keys.
template <int bits, int levels>
inline void unpack_trellis_keys(const trellis::Rows& rows, const Byte* codes, std::size_t stride, int dim, int n,
                                Byte* tile) {
  for (int key = 0; key < n; key += 8)
    for (int channel = 0; channel < dim; channel += 32, tile += 512) {
      __m256i v[8];
      for (int r = 0; r < 8; ++r)
        v[r] = trellis::levels_at<bits, levels>(
            rows, codes + static_cast<std::size_t>(smaller(key + r, n - 1)) * stride, dim, channel);
      store_keys<true>(v, tile);
    }
}

/// sum[b] += v[b] w, pair by pair. The barrier keeps the compiler from holding the products of several rows at once: it
/// would spill sums, and each spilled sum costs half the speed.
HWY_INLINE void add_products(__m256i (&sum)[2], __m256i v0, __m256i v1, __m256i w) {
  sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(v0, w));
  sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(v1, w));
  asm("" : "+x"(sum[0]), "+x"(sum[1]));
}

/// Scores of Q queries and 16 keys.
template <int Q, bool grouped>
HWY_INLINE void score_block(const Queries8& x, const Byte* tile, const KeyScales& keys, int row, int key, int dim,
                            float* scores) {
  const int pairs = dim / 2, group_pairs = pairs / x.groups;
  const Byte* from = tile + static_cast<std::ptrdiff_t>(key) / 8 * pairs * 32;
  const auto* q = reinterpret_cast<const std::int16_t*>(x.q) + static_cast<std::ptrdiff_t>(row) * dim;
  __m256 total[Q][2] = {};
  for (int g = 0; g < x.groups; ++g) {
    __m256i sum[Q][2];
    for (int r = 0; r < Q; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (int i = g * group_pairs; i < (g + 1) * group_pairs; ++i) {
      const auto* k = reinterpret_cast<const __m256i*>(from + 32 * static_cast<std::ptrdiff_t>(i));
      const __m256i k0 = _mm256_load_si256(k), k1 = _mm256_load_si256(k + pairs);
      for (int r = 0; r < Q; ++r)
        add_products(sum[r], k0, k1, broadcast_pair(q + static_cast<std::ptrdiff_t>(r) * dim + 2 * i));
    }
    for (int r = 0; r < Q; ++r) {
      const int at = (row + r) * x.groups + g;
      const __m256 scale = _mm256_set1_ps(x.scale[at]);
      const __m256 query_sum = _mm256_set1_ps(x.scale[at] * static_cast<float>(x.sum[at]));
      for (int b = 0; b < 2; ++b) {
        const std::ptrdiff_t of_key = 64 * g + key + 8 * b;
        const __m256 both = _mm256_mul_ps(_mm256_loadu_ps(keys.scale + of_key), scale);
        const __m256 products = _mm256_cvtepi32_ps(sum[r][b]);
        if constexpr (!grouped) {
          total[r][b] = _mm256_mul_ps(products, both);
        } else {
          total[r][b] = g ? _mm256_fmadd_ps(products, both, total[r][b]) : _mm256_mul_ps(products, both);
          total[r][b] = _mm256_fmadd_ps(_mm256_loadu_ps(keys.bias + of_key), query_sum, total[r][b]);
        }
      }
    }
  }
  for (int r = 0; r < Q; ++r)
    for (int b = 0; b < 2; ++b) _mm256_storeu_ps(scores + 64 * (row + r) + key + 8 * b, total[r][b]);
}

template <bool grouped>
inline void score_tile(const Queries8& x, const Byte* tile, const KeyScales& keys, int n, const int* visible, int dim,
                       float* scores) {
  for (int row = 0; row < x.queries; row += 4) {
    const int rows = smaller(4, x.queries - row), end = end_of_rows(visible + row, rows, n);
    for (int key = 0; key < end; key += 16) {
      if (rows == 4) {
        score_block<4, grouped>(x, tile, keys, row, key, dim, scores);
        continue;
      }
      if (rows & 2) score_block<2, grouped>(x, tile, keys, row, key, dim, scores);
      if (rows & 1) score_block<1, grouped>(x, tile, keys, row + (rows & 2), key, dim, scores);
    }
  }
}

template <bool look_up>
HWY_INLINE void unpack_keys(const codec::SideCodec& codec, const Byte* codes, int n, const std::int8_t* entries,
                            Byte* tile) {
  const int dim = codec.dim;
  switch (codec.format.bits) {
    case 2:
      return unpack_keys<2, look_up>(codes, codec.code_bytes, dim, n, entries, tile);
    case 3:
      return unpack_keys<3, look_up>(codes, codec.code_bytes, dim, n, entries, tile);
    case 4:
      return unpack_keys<4, look_up>(codes, codec.code_bytes, dim, n, entries, tile);
    case 5:
      return unpack_keys<5, look_up>(codes, codec.code_bytes, dim, n, entries, tile);
    default:
      return unpack_keys<8, false>(codes, codec.code_bytes, dim, n, entries, tile);
  }
}

HWY_INLINE void integer_scores(const codec::SideCodec& codec, const Byte* codes, int n, const Queries8& x,
                               const KeyScales& keys, const int* visible, float* scores, Byte* tile) {
  // Blocks of 16 keys: the tile has room for a second block of 8 that may lack.
  if (codec.format.kind == Kind::turboquant) {
    std::int8_t entries[32];
    key_centroids(codec.format.bits, entries);
    unpack_keys<true>(codec, codes, n, entries, tile);
    score_tile<false>(x, tile, keys, n, visible, codec.dim, scores);
  } else {
    unpack_keys<false>(codec, codes, n, nullptr, tile);
    score_tile<true>(x, tile, keys, n, visible, codec.dim, scores);
  }
}

/// use(bits, levels), both as types, for a table of 16 << levels codes.
template <int bits, class Use>
HWY_INLINE void with_levels(const codec::TrellisTable& table, Use use) {
  if (table.levels <= 64) return use(Number<bits>(), Number<2>());
  if (table.levels == 128) return use(Number<bits>(), Number<3>());
  if constexpr (bits >= 4) use(Number<bits>(), Number<4>());
}
template <class Use>
HWY_INLINE void with_trellis(const codec::TrellisTable& table, Use use) {
  if (table.bits == 2) return with_levels<2>(table, use);
  if (table.bits == 3) return with_levels<3>(table, use);
  if (table.bits == 4) return with_levels<4>(table, use);
  with_levels<5>(table, use);
}

HWY_INLINE void trellis_integer_scores(const codec::SideCodec& codec, const Byte* codes, int n, const Queries8& x,
                                       const KeyScales& keys, const int* visible, float* scores, Byte* tile) {
  const codec::TrellisTable& table = codec::trellis_table(codec.format.bits, codec.format.states);
  const trellis::Rows rows = trellis::rows_of(table);
  with_trellis(table, [&](auto bits, auto levels) {
    unpack_trellis_keys<bits.value, levels.value>(rows, codes, codec.code_bytes, codec.dim, n, tile);
  });
  score_tile<false>(x, tile, keys, n, visible, codec.dim, scores);
}

// ---- values

HWY_INLINE int value_channels(const codec::SideCodec&) {
  return 32;
}
/// The channel whose sum stands at `place` of an output row.
HWY_INLINE int value_channel(int place) {
  const int vector = place % 32 / 8, lane = place % 8;
  return place / 32 * 32 + 16 * (lane / 4) + 4 * vector + lane % 4;
}
HWY_INLINE int value_channel(const codec::SideCodec&, int place) {
  return value_channel(place);
}

/// 32 channels of n values to tile [vector of 8 channels][32 pairs of tokens][channel][token] of words.
template <int bits, bool look_up>
inline void unpack_values(const Byte* codes, std::size_t stride, int dim, int channel, int n,
                          const std::int16_t* entries, std::int16_t* tile) {
  ByteTable low = {}, high = {};
  if constexpr (look_up) {
    std::int8_t low_bytes[32], high_bytes[32];
    for (int i = 0; i < 32; ++i) {
      low_bytes[i] = static_cast<std::int8_t>(entries[i] & 255);
      high_bytes[i] = static_cast<std::int8_t>(entries[i] >> 8);
    }
    low = byte_table(low_bytes);
    high = byte_table(high_bytes);
  }
  auto* to = reinterpret_cast<__m256i*>(tile);
  for (int j = 0; j < n; j += 2, ++to) {
    const __m256i a = load_row<bits>(codes + static_cast<std::size_t>(j) * stride, dim, channel);
    const __m256i b = load_row<bits>(codes + static_cast<std::size_t>(smaller(j + 1, n - 1)) * stride, dim, channel);
    const __m256i both[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
    for (int h = 0; h < 2; ++h) {
      const __m256i low_byte = look_up ? look_up_bytes<bits>(low, both[h]) : both[h];
      const __m256i high_byte = look_up ? look_up_bytes<bits>(high, both[h]) : _mm256_setzero_si256();
      _mm256_store_si256(to + 64 * h, _mm256_unpacklo_epi8(low_byte, high_byte));
      _mm256_store_si256(to + 64 * h + 32, _mm256_unpackhi_epi8(low_byte, high_byte));
    }
  }
}

/// The same of trellis values.
template <int bits, int levels>
inline void unpack_trellis_values(const trellis::Rows& rows, const Byte* codes, std::size_t stride, int dim,
                                  int channel, int n, std::int16_t* tile) {
  auto* to = reinterpret_cast<__m256i*>(tile);
  for (int j = 0; j < n; j += 2, ++to) {
    const Byte *first = codes + static_cast<std::size_t>(j) * stride,
               *second = codes + static_cast<std::size_t>(smaller(j + 1, n - 1)) * stride;
    const __m256i a = trellis::levels_at<bits, levels>(rows, first, dim, channel),
                  b = trellis::levels_at<bits, levels>(rows, second, dim, channel);
    const __m256i both[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
    for (int h = 0; h < 2; ++h) {
      const __m256i sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), both[h]);
      _mm256_store_si256(to + 64 * h, _mm256_unpacklo_epi8(both[h], sign));
      _mm256_store_si256(to + 64 * h + 32, _mm256_unpackhi_epi8(both[h], sign));
    }
  }
}

/// Weights p[t] * scale[t] of one query in 16 bits at most `limit`, and the factor that they have lost.
HWY_INLINE float quantize_weights(const float* p, const float* scale, int n, float limit, std::int16_t* words) {
  __m256 w[8], largest = _mm256_setzero_ps();
  for (int i = 0; i < 8; ++i) {
    w[i] = zero().raw;
    if (8 * i < n)
      w[i] = _mm256_mul_ps(load_tail(p + 8 * i, smaller(8, n - 8 * i)).raw, _mm256_loadu_ps(scale + 8 * i));
    largest = _mm256_max_ps(largest, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), w[i]));
  }
  const float most = hn::GetLane(hn::MaxOfLanes(tag, F{largest}));
  const __m256 to_words = _mm256_set1_ps(most > least_weight ? limit / most : 0.0f);
  for (int i = 0; i < 8; i += 2) {
    const __m256i packed = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(w[i], to_words)),
                                              _mm256_cvtps_epi32(_mm256_mul_ps(w[i + 1], to_words)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + 8 * i), _mm256_permute4x64_epi64(packed, 0xd8));
  }
  return most > least_weight ? most / limit : 0.0f;
}

HWY_INLINE float weighted_bias(const float* p, const float* bias, int n) {
  F sum = zero();
  for (int i = 0; i < n; i += lanes) sum = hn::MulAdd(load_tail(p + i, smaller(lanes, n - i)), load(bias + i), sum);
  return sum_of_lanes(sum);
}

/// Q queries and two vectors of channels over `pairs` pairs of tokens, added to the output.
template <int Q>
HWY_INLINE void value_block(const ValueTile& x, int row, int pairs, int vector, float* output, int dim) {
  const std::int16_t* words = x.words + 64 * row;
  const auto* tile = reinterpret_cast<const __m256i*>(x.tile) + 32 * vector;
  __m256i sum[Q][2];
  for (int r = 0; r < Q; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_si256();
  for (int pair = 0; pair < pairs; ++pair) {
    const __m256i v0 = _mm256_load_si256(tile + pair), v1 = _mm256_load_si256(tile + 32 + pair);
    for (int r = 0; r < Q; ++r) add_products(sum[r], v0, v1, broadcast_pair(words + 64 * r + 2 * pair));
  }
  for (int r = 0; r < Q; ++r)
    for (int c = 0; c < 2; ++c) {
      float* to = output + static_cast<std::ptrdiff_t>(row + r) * dim + 8 * (vector + c);
      const __m256 before = _mm256_add_ps(_mm256_loadu_ps(to), _mm256_set1_ps(x.bias[row + r]));
      _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][c]), _mm256_set1_ps(x.factor[row + r]), before));
    }
}

template <bool look_up>
HWY_INLINE void unpack_values(const codec::SideCodec& codec, const Byte* codes, int channel, int n,
                              const std::int16_t* entries, std::int16_t* tile) {
  const int dim = codec.dim;
  switch (codec.format.bits) {
    case 2:
      return unpack_values<2, look_up>(codes, codec.code_bytes, dim, channel, n, entries, tile);
    case 3:
      return unpack_values<3, look_up>(codes, codec.code_bytes, dim, channel, n, entries, tile);
    case 4:
      return unpack_values<4, look_up>(codes, codec.code_bytes, dim, channel, n, entries, tile);
    case 5:
      return unpack_values<5, look_up>(codes, codec.code_bytes, dim, channel, n, entries, tile);
    default:
      return unpack_values<8, false>(codes, codec.code_bytes, dim, channel, n, entries, tile);
  }
}

/// Every query and the 32 channels of a tile.
inline void value_tile(const ValueTile& x, int n, int queries, const int* visible, float* output, int dim) {
  for (int vector = 0; vector < 4; vector += 2)
    for (int row = 0; row < queries; row += 4) {
      const int rows = smaller(4, queries - row), pairs = (end_of_rows(visible + row, rows, n) + 1) / 2;
      if (rows == 4) {
        value_block<4>(x, row, pairs, vector, output, dim);
        continue;
      }
      if (rows & 2) value_block<2>(x, row, pairs, vector, output, dim);
      if (rows & 1) value_block<1>(x, row + (rows & 2), pairs, vector, output, dim);
    }
}

HWY_INLINE void integer_values_of(const codec::SideCodec& codec, const Byte* codes, int start, int n,
                                  const std::int16_t* entries, int queries, const int* visible, ValueTile& x,
                                  float* output) {
  if (codec.format.kind == Kind::turboquant)
    unpack_values<true>(codec, codes, start, n, entries, x.tile);
  else
    unpack_values<false>(codec, codes, start, n, entries, x.tile);
  value_tile(x, n, queries, visible, output + start, codec.dim);
}

constexpr int trellis_chunk = 32;  // channels

HWY_INLINE int trellis_value_channel(int, int place) {
  return value_channel(place);
}

HWY_INLINE void quantize_trellis_weights(const float* p, const float* scale, int n, ValueTile& x, int row) {
  x.factor[row] = quantize_weights(p, scale, n, largest_code_weight, x.words + static_cast<std::ptrdiff_t>(row) * 64);
  x.bias[row] = 0.0f;
}

HWY_INLINE void trellis_integer_values(const codec::SideCodec& codec, const Byte* codes, int start, int n, int queries,
                                       const int* visible, ValueTile& x, float* output) {
  const codec::TrellisTable& table = codec::trellis_table(codec.format.bits, codec.format.states);
  const trellis::Rows rows = trellis::rows_of(table);
  with_trellis(table, [&](auto bits, auto levels) {
    unpack_trellis_values<bits.value, levels.value>(rows, codes, codec.code_bytes, codec.dim, start, n, x.tile);
  });
  value_tile(x, n, queries, visible, output + start, codec.dim);
}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed

#endif
