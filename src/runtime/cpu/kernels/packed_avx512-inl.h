// Integer attention on packed vectors with AVX-512 VNNI; packed-inl.h has the meaning. Keys: a lane is a key, four
// channels a dword, 64 products a vpdpbusd. Values: a lane is a channel, two tokens a dword, 32 products a vpdpwssd.
// For one key and value of 256 channels and 8 queries 32 vpdpbusd and 64 vpdpwssd, and about 20 operations to unpack
// them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "codec/side_codec.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/codes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/lanes-inl.h"
#include "runtime/cpu/kernels/packed_tile-inl.h"

#ifdef TQKV_AVX512

namespace tqkv::cpu::TQKV_ISA::vec::packed {

constexpr bool integer_keys = true, integer_values = true;
constexpr std::size_t key_bytes = 1;                // of a channel in a tile
constexpr std::size_t value_tile_bytes = 64 * 128;  // formats that are not streamed: four vectors of channels
using QueryWord = std::int8_t;

/// Channels in a byte of the rows that load_row gives: packed ones as they lie, or, spread, one index a byte.
template <int bits, bool spread>
constexpr int per_byte = spread || bits == 8 ? 1 : 8 / bits;

/// 64 bytes of one row from byte 64 * chunk on, zeros behind the row's end; or, spread, the indices of its channels
/// from 64 * chunk on.
template <int bits, bool spread>
HWY_INLINE __m512i load_row(const Byte* row, int dim, int chunk) {
  if constexpr (!spread) {
    const int bytes = dim * bits / 8 - 64 * chunk;
    row += 64 * chunk;
    return bytes >= 64 ? _mm512_loadu_si512(row) : _mm512_maskz_loadu_epi32(first_lanes(bytes / 4), row);
  } else {
    constexpr int width = bits < 4 ? 2 : 4;
    const auto* plane = reinterpret_cast<const __m128i*>(row + 8 * width * chunk);
    const __m512i wide = width == 2
                             ? _mm512_cvtepu16_epi64(_mm_loadu_si128(plane))
                             : _mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(plane)));
    __m512i index =
        _mm512_multishift_epi64_epi8(_mm512_set1_epi64(width == 2 ? 0x0e0c0a0806040200 : 0x1c1814100c080400), wide);
    index = _mm512_and_si512(index, _mm512_set1_epi8((1 << width) - 1));
    if constexpr (bits != width)
      index = _mm512_mask_add_epi8(index, load_bits<unsigned long long>(row + dim * width / 8 + 8 * chunk), index,
                                   _mm512_set1_epi8(1 << width));
    return index;
  }
}

// ---- scales

/// Scales and biases [4, 64] of n tokens with four groups each: transposes them 16 tokens at a time.
HWY_INLINE void load_scales_of_four_groups(const Byte* scalars, int n, float* scale, float* bias) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  for (int j = 0; j < 64; j += 16) {
    __m512i v[4];  // block b of v[i]: token 4 i + b
    for (int i = 0; i < 4; ++i) {
      const int left = smaller(4, n - j - 4 * i);
      v[i] = left > 0 ? _mm512_maskz_loadu_epi32(first_lanes(4 * left), scalars + 16 * (j + 4 * i))
                      : _mm512_setzero_si512();
    }
    const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]),
                  c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    const __m512i pairs[4] = {_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c), _mm512_unpacklo_epi64(b, d),
                              _mm512_unpackhi_epi64(b, d)};
    for (int i = 0; i < 4; ++i) {  // lane 4 b + i of pairs: token 4 i + b
      const __m512i pair = _mm512_permutexvar_epi32(order, pairs[i]);
      float* to = (i < 2 ? scale + 128 * i : bias + 128 * (i - 2)) + j;
      _mm512_storeu_ps(to, _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16)));
      _mm512_storeu_ps(to + 64, _mm512_castsi512_ps(_mm512_and_si512(pair, high)));
    }
  }
}

HWY_INLINE void load_halves(const Byte* scalars, int n, float factor, float* scale) {
  for (int j = 0; j < 64; j += 16) {
    const int left = smaller(16, n - j);
    const __m256i halves =
        left > 0 ? _mm256_maskz_loadu_epi16(first_lanes(left), scalars + 2 * j) : _mm256_setzero_si256();
    _mm512_storeu_ps(scale + j, _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(factor)));
  }
}

// ---- keys

/// Channel at place `place` of a query: the order in which the packed bytes of four keys' channels come.
HWY_INLINE int key_channel(const codec::SideCodec& codec, int place) {
  if (codec.format.kind == Kind::trellis) return place;
  const int per = codec.format.bits == 2 ? 4 : codec.format.bits == 4 ? 2 : 1;
  const int in = place % (4 * per);
  return place - in + in % 4 * per + in / 4;
}

/// Entries [2^bits] as bytes from 0 on, repeated so that bits above the index need no mask.
template <int bits>
HWY_INLINE __m512i key_table(const std::int8_t* entries) {
  alignas(64) Byte bytes[64];
  for (int i = 0; i < 64; ++i) bytes[i] = static_cast<Byte>(entries[i % (1 << bits)] + 128);
  return _mm512_load_si512(bytes);
}

/// n keys to tile [block of 16 keys][four channels][key][channel]; bytes look up `entries` [32], if any.
template <int bits, bool spread>
inline void unpack_keys(const Byte* codes, std::size_t stride, int dim, int n, const std::int8_t* entries, Byte* tile) {
  constexpr int per = per_byte<bits, spread>;
  __m512i table = {};
  if constexpr (bits < 8) table = key_table<bits>(entries);
  for (int key = 0; key < n; key += 16) {
    for (int chunk = 0; chunk * 64 * per < dim; ++chunk) {
      __m512i v[16];
      for (int r = 0; r < 16; ++r)
        v[r] = load_row<bits, spread>(codes + static_cast<std::size_t>(smaller(key + r, n - 1)) * stride, dim, chunk);
      if constexpr (spread)
        for (int r = 0; r < 16; ++r) v[r] = _mm512_permutexvar_epi8(v[r], table);
      transpose_lanes(v);
      const int dwords = smaller(16, dim / (4 * per) - 16 * chunk);
      for (int i = 0; i < dwords; ++i)
        for (int s = 0; s < per; ++s, tile += 64) {
          __m512i bytes = s ? _mm512_srli_epi16(v[i], static_cast<unsigned>(s * bits)) : v[i];
          if constexpr (!spread && bits < 8) bytes = _mm512_permutexvar_epi8(bytes, table);
          _mm512_store_si512(tile, bytes);
        }
    }
  }
}

/// total (+)= the products of group g of query `row` with the 16 keys from `key` on, scaled.
template <bool grouped>
HWY_INLINE __m512 scaled_products(const Queries8& x, const KeyScales& keys, int row, int g, int key, __m512i sum,
                                  __m512 total) {
  const int at = row * x.groups + g;
  const __m512 both = _mm512_mul_ps(_mm512_loadu_ps(keys.scale + 64 * g + key), _mm512_set1_ps(x.scale[at]));
  const __m512 products = _mm512_cvtepi32_ps(sum);
  if constexpr (!grouped) return _mm512_mul_ps(products, both);
  const __m512 query_sum = _mm512_set1_ps(x.scale[at] * static_cast<float>(x.sum[at]));
  total = g ? _mm512_fmadd_ps(products, both, total) : _mm512_mul_ps(products, both);
  return _mm512_fmadd_ps(_mm512_loadu_ps(keys.bias + 64 * g + key), query_sum, total);
}

/// Scores of Q queries and B blocks of 16 keys.
template <int Q, int B, bool grouped>
HWY_INLINE void score_block(const Queries8& x, const Byte* tile, const KeyScales& keys, int row, int block, int dim,
                            float* scores) {
  const int quads = dim / 4, group_quads = quads / x.groups;
  const Byte* from[B];
  for (int b = 0; b < B; ++b) from[b] = tile + static_cast<std::ptrdiff_t>(block + b) * quads * 64;
  const auto* q = reinterpret_cast<const std::int8_t*>(x.q) + static_cast<std::ptrdiff_t>(row) * dim;
  __m512 total[Q][B] = {};
  for (int g = 0; g < (grouped ? x.groups : 1); ++g) {
    __m512i sum[Q][B];
    for (int r = 0; r < Q; ++r)
      for (int b = 0; b < B; ++b)
        sum[r][b] = grouped ? _mm512_setzero_si512() : _mm512_set1_epi32(-128 * x.sum[row + r]);
    for (int i = g * group_quads; i < (g + 1) * group_quads; ++i) {
      __m512i k[B];
      for (int b = 0; b < B; ++b) k[b] = _mm512_load_si512(from[b] + 64 * static_cast<std::ptrdiff_t>(i));
      for (int r = 0; r < Q; ++r) {
        const __m512i four = broadcast_four(q + static_cast<std::ptrdiff_t>(r) * dim + 4 * i);
        for (int b = 0; b < B; ++b) sum[r][b] = _mm512_dpbusd_epi32(sum[r][b], k[b], four);
      }
    }
    for (int r = 0; r < Q; ++r)
      for (int b = 0; b < B; ++b)
        total[r][b] = scaled_products<grouped>(x, keys, row + r, g, 16 * (block + b), sum[r][b], total[r][b]);
  }
  for (int r = 0; r < Q; ++r)
    for (int b = 0; b < B; ++b) _mm512_storeu_ps(scores + 64 * (row + r) + 16 * (block + b), total[r][b]);
}

template <int Q, bool grouped>
HWY_INLINE void score_rows(const Queries8& x, const Byte* tile, const KeyScales& keys, int row, int blocks, int dim,
                           float* scores) {
  constexpr int most = grouped ? 2 : 4;  // blocks whose sums fit the registers
  int block = 0;
  for (; block + most <= blocks; block += most) score_block<Q, most, grouped>(x, tile, keys, row, block, dim, scores);
  for (; block < blocks; ++block) score_block<Q, 1, grouped>(x, tile, keys, row, block, dim, scores);
}

template <bool grouped>
inline void score_tile(const Queries8& x, const Byte* tile, const KeyScales& keys, int n, const int* visible, int dim,
                       float* scores) {
  for (int row = 0; row < x.queries; row += 4) {
    const int rows = smaller(4, x.queries - row), blocks = (end_of_rows(visible + row, rows, n) + 15) / 16;
    if (rows == 4) {
      score_rows<4, grouped>(x, tile, keys, row, blocks, dim, scores);
      continue;
    }
    if (rows & 2) score_rows<2, grouped>(x, tile, keys, row, blocks, dim, scores);
    if (rows & 1) score_rows<1, grouped>(x, tile, keys, row + (rows & 2), blocks, dim, scores);
  }
}

/// Scores of Q queries without a tile in memory: for few queries unpacking then runs beside the products.
template <int Q, int bits, bool grouped>
inline void score_stream(const Queries8& x, const Byte* codes, std::size_t stride, int dim, int n,
                         const KeyScales& keys, int row, __m512i table, float* scores) {
  constexpr int per = 8 / bits, taken = 32 * per;  // channels of 32 bytes
  const int group = dim / x.groups;
  const auto* queries = reinterpret_cast<const std::int8_t*>(x.q) + static_cast<std::ptrdiff_t>(row) * dim;
  for (int key = 0; key < n; key += 16) {
    const Byte* from[16];
    for (int r = 0; r < 16; ++r) from[r] = codes + static_cast<std::size_t>(smaller(key + r, n - 1)) * stride;
    __m512i sum[Q];
    __m512 total[Q] = {};
    for (int r = 0; r < Q; ++r) sum[r] = grouped ? _mm512_setzero_si512() : _mm512_set1_epi32(-128 * x.sum[row + r]);
    for (int channel = 0; channel < dim; channel += taken) {
      __m512i v[8];
      for (int r = 0; r < 8; ++r)
        v[r] = _mm512_inserti64x4(
            _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from[r] + channel / per))),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from[8 + r] + channel / per)), 1);
      transpose8(v);
      const std::int8_t* q = queries + channel;
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
#pragma GCC unroll 4
        for (int s = 0; s < per; ++s, q += 4) {
          const __m512i k =
              _mm512_permutexvar_epi8(s ? _mm512_srli_epi16(v[i], static_cast<unsigned>(s * bits)) : v[i], table);
          for (int r = 0; r < Q; ++r)
            sum[r] = _mm512_dpbusd_epi32(sum[r], k, broadcast_four(q + static_cast<std::ptrdiff_t>(r) * dim));
        }
      if (grouped && (channel + taken) % group == 0)
        for (int r = 0; r < Q; ++r) {
          total[r] = scaled_products<true>(x, keys, row + r, channel / group, key, sum[r], total[r]);
          sum[r] = _mm512_setzero_si512();
        }
    }
    for (int r = 0; r < Q; ++r)
      _mm512_storeu_ps(scores + 64 * (row + r) + key,
                       grouped ? total[r] : scaled_products<false>(x, keys, row + r, 0, key, sum[r], total[r]));
  }
}

template <int bits, bool grouped>
inline void stream_scores(const Queries8& x, const Byte* codes, std::size_t stride, int dim, int n, const int* visible,
                          const KeyScales& keys, const std::int8_t* entries, float* scores) {
  const __m512i table = key_table<bits>(entries);
  for (int row = 0; row < x.queries;) {
    const int left = x.queries - row, rows = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const int end = end_of_rows(visible + row, rows, n);
    if (rows == 8)
      score_stream<8, bits, grouped>(x, codes, stride, dim, end, keys, row, table, scores);
    else if (rows == 4)
      score_stream<4, bits, grouped>(x, codes, stride, dim, end, keys, row, table, scores);
    else if (rows == 2)
      score_stream<2, bits, grouped>(x, codes, stride, dim, end, keys, row, table, scores);
    else
      score_stream<1, bits, grouped>(x, codes, stride, dim, end, keys, row, table, scores);
    row += rows;
  }
}

HWY_INLINE void integer_scores(const codec::SideCodec& codec, const Byte* codes, int n, const Queries8& x,
                               const KeyScales& keys, const int* visible, float* scores, Byte* tile) {
  const bool turboquant = codec.format.kind == Kind::turboquant;
  std::int8_t entries[32];
  if (turboquant)
    key_centroids(codec.format.bits, entries);
  else if (codec.format.bits == 4)
    for (int i = 0; i < 32; ++i) entries[i] = static_cast<std::int8_t>(i % 16 - 128);
  const std::size_t stride = codec.code_bytes;
  constexpr int most = 8;  // more queries would unpack again, which the tile saves
  if (x.queries <= most && codec.format.bits == 4)
    return turboquant ? stream_scores<4, false>(x, codes, stride, codec.dim, n, visible, keys, entries, scores)
                      : stream_scores<4, true>(x, codes, stride, codec.dim, n, visible, keys, entries, scores);
  if (x.queries <= most && codec.format.bits == 2 && codec.dim % 128 == 0)
    return stream_scores<2, false>(x, codes, stride, codec.dim, n, visible, keys, entries, scores);
  switch (codec.format.bits) {
    case 2:
      unpack_keys<2, false>(codes, stride, codec.dim, n, entries, tile);
      break;
    case 3:
      unpack_keys<3, true>(codes, stride, codec.dim, n, entries, tile);
      break;
    case 4:
      unpack_keys<4, false>(codes, stride, codec.dim, n, entries, tile);
      break;
    case 5:
      unpack_keys<5, true>(codes, stride, codec.dim, n, entries, tile);
      break;
    default:
      unpack_keys<8, false>(codes, stride, codec.dim, n, nullptr, tile);
      break;
  }
  if (turboquant)
    score_tile<false>(x, tile, keys, n, visible, codec.dim, scores);
  else
    score_tile<true>(x, tile, keys, n, visible, codec.dim, scores);
}

// ---- values

/// Channels of a chunk: 64 bytes of packed codes that are streamed, or 64 of those that go through a tile.
HWY_INLINE int value_channels(const codec::SideCodec& codec) {
  if (codec.format.kind != Kind::turboquant) return 64;
  return codec.format.bits == 2 ? 256 : codec.format.bits == 4 ? 128 : 64;
}

/// Bytes 4 p to 4 p + 3 of each 16 bytes of four rows: tokens 0, 2, 1, 3 in a lane, so that low bytes are the first
/// pair.
template <int p>
HWY_INLINE __m512i interleave(const __m512i (&row)[4]) {
  const __m512i even = p < 2 ? _mm512_unpacklo_epi8(row[0], row[2]) : _mm512_unpackhi_epi8(row[0], row[2]);
  const __m512i odd = p < 2 ? _mm512_unpacklo_epi8(row[1], row[3]) : _mm512_unpackhi_epi8(row[1], row[3]);
  return p % 2 ? _mm512_unpackhi_epi16(even, odd) : _mm512_unpacklo_epi16(even, odd);
}

/// The entries of a table of words, or the bytes themselves, of two pairs of tokens.
template <bool look_up>
HWY_INLINE void store_pairs(__m512i column, __m512i table, std::int16_t* to) {
  const __m512i second = _mm512_srli_epi16(column, 8);
  _mm512_store_si512(
      to, look_up ? _mm512_permutexvar_epi16(column, table) : _mm512_and_si512(column, _mm512_set1_epi16(255)));
  _mm512_store_si512(to + 32, look_up ? _mm512_permutexvar_epi16(second, table) : second);
}

/// 64 channels of n values to tile [vector of 16 channels][32 pairs of tokens][channel][token].
template <int bits, bool look_up>
inline void unpack_values(const Byte* codes, std::size_t stride, int dim, int chunk, int n, const std::int16_t* entries,
                          std::int16_t* tile) {
  constexpr bool spread = bits < 8;
  __m512i table = {};
  if constexpr (look_up) table = _mm512_loadu_si512(entries);
  for (int j = 0; j < n; j += 4) {
    __m512i row[4];
    for (int r = 0; r < 4; ++r)
      row[r] = load_row<bits, spread>(codes + static_cast<std::size_t>(smaller(j + r, n - 1)) * stride, dim, chunk);
    std::int16_t* to = tile + 16 * j;
    store_pairs<look_up>(interleave<0>(row), table, to);
    store_pairs<look_up>(interleave<1>(row), table, to + 1024);
    store_pairs<look_up>(interleave<2>(row), table, to + 2048);
    store_pairs<look_up>(interleave<3>(row), table, to + 3072);
  }
}

/// The channel whose sum stands at `place` of an output row.
HWY_INLINE int value_channel(const codec::SideCodec& codec, int place) {
  const int channels = value_channels(codec), per = channels / 64;
  const int start = place / channels * channels;
  const int lanes_used = smaller(16, (codec.dim - start) / (4 * per));  // of each vector
  const int vector = (place - start) / lanes_used, lane = (place - start) % lanes_used;
  return start + (16 * (lane / 4) + 4 * (vector / per) + lane % 4) * per + vector % per;
}

/// Weights p[t] * scale[t] of one query in 16 bits at most `limit`, and the factor that they have lost.
HWY_INLINE float quantize_weights(const float* p, const float* scale, int n, float limit, std::int16_t* words) {
  __m512 w[4], largest = _mm512_setzero_ps();
  for (int i = 0; i < 4; ++i) {
    const int left = smaller(16, n - 16 * i);
    w[i] = left > 0 ? _mm512_maskz_loadu_ps(first_lanes(left), p + 16 * i) : _mm512_setzero_ps();
    w[i] = _mm512_mul_ps(w[i], _mm512_loadu_ps(scale + 16 * i));
    largest = _mm512_max_ps(largest, _mm512_abs_ps(w[i]));
  }
  const float most = _mm512_reduce_max_ps(largest);
  const __m512 to_words = _mm512_set1_ps(most > least_weight ? limit / most : 0.0f);
  for (int i = 0; i < 4; ++i)
    _mm256_store_si256(reinterpret_cast<__m256i*>(words + 16 * i),
                       _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(w[i], to_words))));
  return most > least_weight ? most / limit : 0.0f;
}

HWY_INLINE float weighted_bias(const float* p, const float* bias, int n) {
  __m512 sum = _mm512_setzero_ps();
  for (int i = 0; 16 * i < n; ++i)
    sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(first_lanes(smaller(16, n - 16 * i)), p + 16 * i),
                          _mm512_loadu_ps(bias + 16 * i), sum);
  return _mm512_reduce_add_ps(sum);
}

template <int Q, int C>
HWY_INLINE void add_sums(const ValueTile& x, const __m512i (&sum)[Q][C], int row, int vector, float* output, int dim) {
  const auto mask = first_lanes(x.lanes);
  for (int r = 0; r < Q; ++r)
    for (int c = 0; c < C; ++c) {
      float* to = output + static_cast<std::ptrdiff_t>(row + r) * dim + (vector + c) * x.lanes;
      const __m512 before = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), _mm512_set1_ps(x.bias[row + r]));
      _mm512_mask_storeu_ps(to, mask,
                            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][c]), _mm512_set1_ps(x.factor[row + r]), before));
    }
}

/// Q queries and two vectors of channels, vectors (4 / bits) p + s and the next of a chunk, straight from the packed
/// rows: looking up runs beside the products and costs less than a tile in memory.
template <int Q, int bits, int p, int s>
HWY_INLINE void value_stream(const ValueTile& x, const Byte* codes, std::size_t stride, int dim, int chunk, int row,
                             int n, __m512i table, float* output) {
  constexpr int per = 8 / bits;
  const std::int16_t* words = x.words + 64 * row;
  __m512i sum[Q][2];
  for (int r = 0; r < Q; ++r) sum[r][0] = sum[r][1] = _mm512_setzero_si512();
  for (int j = 0; j < n; j += 4, words += 4) {
    __m512i rows[4];
    for (int r = 0; r < 4; ++r)
      rows[r] = load_row<bits, false>(codes + static_cast<std::size_t>(smaller(j + r, n - 1)) * stride, dim, chunk);
    const __m512i column = interleave<p>(rows);
    const __m512i v00 = _mm512_permutexvar_epi16(s ? _mm512_srli_epi16(column, s * bits) : column, table),
                  v01 = _mm512_permutexvar_epi16(_mm512_srli_epi16(column, (s + 1) * bits), table),
                  v10 = _mm512_permutexvar_epi16(_mm512_srli_epi16(column, 8 + s * bits), table),
                  v11 = _mm512_permutexvar_epi16(_mm512_srli_epi16(column, 8 + (s + 1) * bits), table);
    for (int r = 0; r < Q; ++r) {
      const __m512i first = broadcast_pair(words + 64 * r), second = broadcast_pair(words + 64 * r + 2);
      sum[r][0] = _mm512_dpwssd_epi32(sum[r][0], v00, first);
      sum[r][1] = _mm512_dpwssd_epi32(sum[r][1], v01, first);
      sum[r][0] = _mm512_dpwssd_epi32(sum[r][0], v10, second);
      sum[r][1] = _mm512_dpwssd_epi32(sum[r][1], v11, second);
    }
  }
  add_sums(x, sum, row, p * per + s, output, dim);
}

template <int Q, int bits>
HWY_INLINE void value_streams(const ValueTile& x, const Byte* codes, std::size_t stride, int dim, int chunk, int row,
                              int n, __m512i table, float* output) {
  value_stream<Q, bits, 0, 0>(x, codes, stride, dim, chunk, row, n, table, output);
  value_stream<Q, bits, 1, 0>(x, codes, stride, dim, chunk, row, n, table, output);
  value_stream<Q, bits, 2, 0>(x, codes, stride, dim, chunk, row, n, table, output);
  value_stream<Q, bits, 3, 0>(x, codes, stride, dim, chunk, row, n, table, output);
  if constexpr (bits == 2) {
    value_stream<Q, bits, 0, 2>(x, codes, stride, dim, chunk, row, n, table, output);
    value_stream<Q, bits, 1, 2>(x, codes, stride, dim, chunk, row, n, table, output);
    value_stream<Q, bits, 2, 2>(x, codes, stride, dim, chunk, row, n, table, output);
    value_stream<Q, bits, 3, 2>(x, codes, stride, dim, chunk, row, n, table, output);
  }
}

/// Every query of a chunk.
template <int bits>
inline void stream_chunk(const ValueTile& x, const Byte* codes, std::size_t stride, int dim, int chunk, int queries,
                         int n, const int* visible, const std::int16_t* entries, float* output) {
  alignas(64) std::int16_t table_words[32];
  for (int i = 0; i < 32; ++i) table_words[i] = entries[i % (1 << bits)];
  const __m512i table = _mm512_load_si512(table_words);
  for (int row = 0; row < queries;) {
    const int left = queries - row, rows = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const int end = end_of_rows(visible + row, rows, n);
    if (end == 0) {
    } else if (rows == 8) {
      value_streams<8, bits>(x, codes, stride, dim, chunk, row, end, table, output);
    } else if (rows == 4) {
      value_streams<4, bits>(x, codes, stride, dim, chunk, row, end, table, output);
    } else if (rows == 2) {
      value_streams<2, bits>(x, codes, stride, dim, chunk, row, end, table, output);
    } else {
      value_streams<1, bits>(x, codes, stride, dim, chunk, row, end, table, output);
    }
    row += rows;
  }
}

/// Q queries and 4 vectors of channels over `pairs` pairs of tokens, added to the output.
template <int Q>
HWY_INLINE void value_block(const ValueTile& x, int row, int pairs, float* output, int dim) {
  const std::int16_t* words = x.words + 64 * row;
  __m512i sum[Q][4];
  for (int r = 0; r < Q; ++r)
    for (int c = 0; c < 4; ++c) sum[r][c] = _mm512_setzero_si512();
  for (int pair = 0; pair < pairs; ++pair) {
    __m512i v[4];
    for (int c = 0; c < 4; ++c) v[c] = _mm512_load_si512(x.tile + 1024 * c + 32 * pair);
    for (int r = 0; r < Q; ++r) {
      const __m512i weight = broadcast_pair(words + 64 * r + 2 * pair);
      for (int c = 0; c < 4; ++c) sum[r][c] = _mm512_dpwssd_epi32(sum[r][c], v[c], weight);
    }
  }
  add_sums(x, sum, row, 0, output, dim);
}

/// Every query of a tile of 64 channels.
inline void value_chunk(const ValueTile& x, int queries, int n, const int* visible, float* output, int dim) {
  for (int row = 0; row < queries; row += 4) {
    const int rows = smaller(4, queries - row), pairs = (end_of_rows(visible + row, rows, n) + 3) / 4 * 2;
    if (rows == 4) {
      value_block<4>(x, row, pairs, output, dim);
      continue;
    }
    if (rows & 2) value_block<2>(x, row, pairs, output, dim);
    if (rows & 1) value_block<1>(x, row + (rows & 2), pairs, output, dim);
  }
}

/// Adds the products of one chunk of channels from `start` on.
HWY_INLINE void integer_values_of(const codec::SideCodec& codec, const Byte* codes, int start, int n,
                                  const std::int16_t* entries, int queries, const int* visible, ValueTile& x,
                                  float* output) {
  const int dim = codec.dim, channels = value_channels(codec), chunk = start / channels;
  const std::size_t stride = codec.code_bytes;
  output += start;
  x.lanes = smaller(16, (dim - start) / (channels / 16));
  if (channels == 256) return stream_chunk<2>(x, codes, stride, dim, chunk, queries, n, visible, entries, output);
  if (channels == 128) return stream_chunk<4>(x, codes, stride, dim, chunk, queries, n, visible, entries, output);
  if (codec.format.bits == 3)
    unpack_values<3, true>(codes, stride, dim, chunk, n, entries, x.tile);
  else if (codec.format.bits == 5)
    unpack_values<5, true>(codes, stride, dim, chunk, n, entries, x.tile);
  else if (codec.format.bits == 4)
    unpack_values<4, false>(codes, stride, dim, chunk, n, nullptr, x.tile);
  else
    unpack_values<8, false>(codes, stride, dim, chunk, n, nullptr, x.tile);
  value_chunk(x, queries, n, visible, output, dim);
}

}  // namespace tqkv::cpu::TQKV_ISA::vec::packed

#endif
