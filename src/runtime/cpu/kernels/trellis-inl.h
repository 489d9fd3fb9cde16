// Trellis-coded vectors (codec/trellis). Encoding is Viterbi's search; with m[w] the squared distance of z[c] to the
// nearest level of window w:
//   for c in channels:  for t in states:  cost'[t] = min(cost[t/2] + m[t], cost[t/2 + states/2] + m[t + states])
// and back from the cheapest last state. Every sum is that of codec::viterbi to the bit. Windows and states stand in
// the lanes. A vector of 256 channels and 64 levels takes 16,384 distances of three operations, beside a chain of a
// permutation, an addition and a minimum for each channel: about as long. Searching a vector in each lane gained
// nothing. Decoding looks up one level a channel: trellis_rows-inl.h.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "codec/side_codec.h"
#include "codec/trellis/levels.h"
#include "runtime/cpu/codec_calls.h"
#include "runtime/cpu/kernels/bytes-inl.h"
#include "runtime/cpu/kernels/codes-inl.h"
#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/simd-inl.h"
#include "runtime/cpu/kernels/trellis_rows-inl.h"
#include "tqkv/kv_format.h"

namespace tqkv::cpu::TQKV_ISA::vec {

namespace trellis {

constexpr int most_choices = codec::most_trellis_choices;

// ---- forward: upper[c] gets bit t where state t is reached from the upper half of the states

/// The squares of z's distances to the nearest of the levels [choices] of each lane, `stride` floats apart.
template <int choices, class D>
HWY_INLINE hn::Vec<D> squared_distance(D d, hn::Vec<D> z, const float* level, int stride) {
  hn::Vec<D> least = hn::Abs(hn::Sub(z, hn::Load(d, level)));
  for (int k = 1; k < choices; ++k) least = hn::Min(least, hn::Abs(hn::Sub(z, hn::Load(d, level + k * stride))));
  return hn::Mul(least, least);
}

/// Each lane of the lower or the upper half of v twice.
template <bool upper, class D>
HWY_INLINE hn::Vec<D> twice(D d, hn::Vec<D> v) {
  constexpr int count = static_cast<int>(hn::MaxLanes(D()));
  if constexpr (count <= 4) {
    return upper ? hn::InterleaveUpper(d, v, v) : hn::InterleaveLower(d, v, v);
  } else {
    alignas(64) static constexpr std::int32_t from[32] = {0, 0, 1, 1, 2,  2,  3,  3,  4,  4,  5,  5,  6,  6,  7,  7,
                                                          8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15};
    return hn::TableLookupLanes(v, hn::SetTableIndices(d, from + (upper ? count : 0)));
  }
}

template <class D>
HWY_INLINE std::uint32_t mask_bits(D d, hn::Mask<D> mask) {
#if HWY_MAX_BYTES == 64
  (void)d;
  return static_cast<std::uint32_t>(mask.raw);
#else
  std::uint8_t bits[8] = {};
  hn::StoreMaskBits(d, mask, bits);
  return bits[0];
#endif
}

/// z and upper [n]. Returns the state in which the cheapest path ends.
template <int choices, int states>
inline int forward(const codec::TrellisTable& table, const float* z, int n, std::uint32_t* upper) {
  constexpr int width = states < lanes ? states : lanes, vectors = states / width;
  constexpr int both_halves = states < lanes ? 2 * width : width;  // of the windows, where they fit
  const hn::CappedTag<float, width> d;
  const hn::CappedTag<float, both_halves> wide;
  alignas(64) float last[states];
  hn::Vec<decltype(d)> cost[vectors];
  for (int s = 0; s < states; ++s) last[s] = s ? HUGE_VALF : 0.0f;
  for (int j = 0; j < vectors; ++j) cost[j] = hn::Load(d, last + j * width);
  for (int c = 0; c < n; ++c) {
    const auto x = hn::Set(wide, z[c]);
    hn::Vec<decltype(d)> next[vectors];
    std::uint32_t bits = 0;
    for (int j = 0; j < vectors; ++j) {
      hn::Vec<decltype(d)> low, high;
      if constexpr (states < lanes) {
        const auto both = squared_distance<choices>(wide, x, table.by_choice, 2 * states);
        low = hn::LowerHalf(d, both);
        high = hn::UpperHalf(d, both);
      } else {
        low = squared_distance<choices>(d, x, table.by_choice + j * width, 2 * states);
        high = squared_distance<choices>(d, x, table.by_choice + states + j * width, 2 * states);
      }
      if constexpr (vectors == 1) {
        low = hn::Add(twice<false>(d, cost[0]), low);
        high = hn::Add(twice<true>(d, cost[0]), high);
      } else {
        const auto from_low = cost[j / 2], from_high = cost[vectors / 2 + j / 2];
        low = hn::Add(j % 2 ? twice<true>(d, from_low) : twice<false>(d, from_low), low);
        high = hn::Add(j % 2 ? twice<true>(d, from_high) : twice<false>(d, from_high), high);
      }
      next[j] = hn::Min(low, high);
      bits |= mask_bits(d, hn::Lt(high, low)) << (j * width);
    }
    for (int j = 0; j < vectors; ++j) cost[j] = next[j];
    upper[c] = bits;
  }
  for (int j = 0; j < vectors; ++j) hn::Store(cost[j], d, last + j * width);
  int state = 0;
  for (int s = 1; s < states; ++s) state = last[s] < last[state] ? s : state;
  return state;
}

template <int choices>
HWY_INLINE int forward(const codec::TrellisTable& table, const float* z, int n, std::uint32_t* upper) {
  constexpr int least = choices == 16 ? 2 : choices == 2 ? 8 : 4;  // of three tables (codec::trellis_states)
  switch (table.states / least) {
    case 1:
      return forward<choices, least>(table, z, n, upper);
    case 2:
      return forward<choices, 2 * least>(table, z, n, upper);
    default:
      return forward<choices, 4 * least>(table, z, n, upper);
  }
}

// ---- back

/// Levels below z: how many of the 16 thresholds are.
HWY_INLINE int choice_of(const float* thresholds, int choices, float z) {
#if HWY_MAX_BYTES == 64
  (void)choices;
  return __builtin_popcount(_mm512_cmp_ps_mask(_mm512_set1_ps(z), _mm512_load_ps(thresholds), _CMP_GT_OQ));
#elif HWY_MAX_BYTES == 32
  const auto below = [=](const float* eight) __attribute__((always_inline)) {
    const __m256 mask = _mm256_cmp_ps(_mm256_set1_ps(z), _mm256_load_ps(eight), _CMP_GT_OQ);
    return __builtin_popcount(static_cast<unsigned>(_mm256_movemask_ps(mask)));
  };
  return below(thresholds) + (choices > 8 ? below(thresholds + 8) : 0);
#else
  int count = 0;
  for (int k = 0; k + 1 < choices; ++k) count += z > thresholds[k];
  return count;
#endif
}

/// A path as bytes: shift bits and choices, and the levels taken.
struct Path {
  alignas(64) Byte shift[codec::max_dim];
  alignas(64) Byte choice[codec::max_dim];
  alignas(64) float level[codec::max_dim];
};

HWY_INLINE void trace_back(const codec::TrellisTable& table, const float* z, const std::uint32_t* upper, int n,
                           int last, Path& path) {
  const int memory = table.memory, choices = table.choices;
  unsigned state = static_cast<unsigned>(last);
  for (int c = n - 1; c >= 0; --c) {
    const unsigned w = state | ((upper[c] >> state) & 1u) << memory;
    const int k = choice_of(table.threshold + w * most_choices, choices, z[c]);
    path.shift[c] = static_cast<Byte>(w & 1u);
    path.choice[c] = static_cast<Byte>(k);
    path.level[c] = table.level[w * static_cast<unsigned>(choices) + static_cast<unsigned>(k)];
    state = w >> 1;
  }
}

// ---- bytes

HWY_INLINE void store_path(const codec::SideCodec& codec, const Path& path, const float* y, double norm, Byte* codes,
                           std::byte* scalars) {
  const int dim = codec.dim;
  pack_plane<1>(path.shift, 0, dim, codes);
  codes += dim / 8;
  switch (codec.format.bits) {
    case 2:
      pack_plane<1>(path.choice, 0, dim, codes);
      break;
    case 3:
      pack_plane<2>(path.choice, 0, dim, codes);
      break;
    case 4:
      pack_plane<2>(path.choice, 0, dim, codes);
      pack_plane<1>(path.choice, 2, dim, codes + dim / 4);
      break;
    default:
      pack_plane<4>(path.choice, 0, dim, codes);
      break;
  }
  double scalar = norm;
  if (codec.format.scalar != KvScalar::norm) {
    const double d = static_cast<double>(dim), squares = static_cast<double>(dot(path.level, path.level, dim)),
                 products = static_cast<double>(dot(y, path.level, dim)) * sqrt(d) / norm;
    if (codec.format.scalar == KvScalar::corrected) scalar = norm / sqrt(squares / d);
    if (codec.format.scalar == KvScalar::unbiased) scalar = norm * d / products;
    if (codec.format.scalar == KvScalar::best) scalar = norm * products / squares;
  }
  store_f16(scalar, bytes(scalars));
}

/// |y|, or 0 for vectors that the reference takes: zero, or a factor beyond f32.
HWY_INLINE double usual_norm(const float* y, int dim) {
  const double squares = sum_of_squares(y, dim);
  return squares > 1e-50 && squares < 1e50 ? sqrt(squares) : 0.0;
}

HWY_INLINE float to_normal(double norm, int dim) {
  return static_cast<float>(sqrt(static_cast<double>(dim)) / norm);
}

inline void encode_vector(const codec::SideCodec& codec, const codec::TrellisTable& table, const float* y,
                          std::byte* codes, std::byte* scalars) {
  const int dim = codec.dim;
  const double norm = usual_norm(y, dim);
  if (norm == 0.0) return encode_reference(codec, y, codes, scalars);
  alignas(64) float z[codec::max_dim];
  alignas(64) std::uint32_t upper[codec::max_dim];
  const F factor = set(to_normal(norm, dim));
  for (int c = 0; c < dim; c += lanes) hn::Store(hn::Mul(load(y + c), factor), tag, z + c);
  const int last = table.choices == 2   ? forward<2>(table, z, dim, upper)
                   : table.choices == 4 ? forward<4>(table, z, dim, upper)
                   : table.choices == 8 ? forward<8>(table, z, dim, upper)
                                        : forward<16>(table, z, dim, upper);
  Path path;
  trace_back(table, z, upper, dim, last, path);
  store_path(codec, path, y, norm, bytes(codes), scalars);
}

}  // namespace trellis

inline void encode_trellis(const codec::SideCodec& codec, const float* x, std::ptrdiff_t x_stride, int n,
                           std::byte* codes, std::byte* scalars) {
  const codec::TrellisTable& table = codec::trellis_table(codec.format.bits, codec.format.states);
  for (int i = 0; i < n; ++i, x += x_stride, codes += codec.code_bytes, scalars += codec.scalar_bytes)
    trellis::encode_vector(codec, table, x, codes, scalars);
}

//   out[c] = code[window of c, choice of c] * (step * (scalar / sqrt(dim)))
inline void decode_trellis(const codec::SideCodec& codec, const std::byte* codes, const std::byte* scalars, int n,
                           float* out) {
  const int dim = codec.dim;
  const codec::TrellisTable& table = codec::trellis_table(codec.format.bits, codec.format.states);
  const float root = sqrtf(static_cast<float>(dim));
  const trellis::Rows rows = trellis::rows_of(table);
  const hn::Rebind<std::int8_t, Tag> byte_tag;
  alignas(64) std::int8_t levels[codec::max_dim];
  for (int i = 0; i < n; ++i, codes += codec.code_bytes, scalars += codec.scalar_bytes, out += dim) {
    trellis::row_levels(rows, bytes(codes), dim, levels);
    const F unit = set(table.step * (f16_at(scalars) / root));
    for (int c = 0; c < dim; c += lanes) {
      const auto code = hn::PromoteTo(int_tag, hn::LoadU(byte_tag, levels + c));
      store(hn::Mul(hn::ConvertTo(tag, code), unit), out + c);
    }
  }
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
