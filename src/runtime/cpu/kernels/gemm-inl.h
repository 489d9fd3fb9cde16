// Two small products of f32 matrices, for attention and the delta rule. An output element is one chain of multiply-adds
// in the order of the inner dimension (and one fixed tree over lanes), whatever block it falls in: it does not depend
// on what else is computed. Bound: one multiply-add a lane; a block of 4 x 4 vectors loads half a vector for each.
#pragma once
#include <cstddef>

#include "runtime/cpu/kernels/isa.h"
#include "runtime/cpu/kernels/simd-inl.h"

namespace tqkv::cpu::TQKV_ISA::vec {

// ---- out = start + p b, along rows of b

/// What the sums begin with: nothing, what `out` holds, or that times scale[row].
enum class Start { zero, keep, scaled };

//   for r in rows:  for c in cols:  out[r, c] = start ± sum_{j<n} p[r * p_row + j * p_step] * b[j, c]
struct FloatProduct {
  const float* p;
  std::ptrdiff_t p_row, p_step;
  const float* b;
  std::ptrdiff_t b_stride;
  float* out;
  std::ptrdiff_t out_stride;
  const float* scale = nullptr;
};

/// R rows by C vectors of columns; `tail` > 0: one vector of that many columns.
template <Start start, bool subtract, int R, int C, bool has_tail>
HWY_INLINE void product_tile(const FloatProduct& x, int row, int n, int col, int tail) {
  F sum[R][C];
  float* out = x.out + row * x.out_stride + col;
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      if constexpr (start == Start::zero) {
        sum[r][c] = zero();
      } else {
        const float* at = out + r * x.out_stride + c * lanes;
        sum[r][c] = has_tail ? load_tail(at, tail) : load(at);
        if constexpr (start == Start::scaled) sum[r][c] = hn::Mul(sum[r][c], set(x.scale[row + r]));
      }
    }
  const float* p = x.p + row * x.p_row;
  const float* b = x.b + col;
  for (int j = 0; j < n; ++j, p += x.p_step, b += x.b_stride) {
    F right[C];
    for (int c = 0; c < C; ++c) right[c] = has_tail ? load_tail(b + c * lanes, tail) : load(b + c * lanes);
    for (int r = 0; r < R; ++r) {
      const F left = set(p[r * x.p_row]);
      for (int c = 0; c < C; ++c)
        sum[r][c] = subtract ? hn::NegMulAdd(left, right[c], sum[r][c]) : hn::MulAdd(left, right[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) {
      float* at = out + r * x.out_stride + c * lanes;
      has_tail ? store_tail(sum[r][c], at, tail) : store(sum[r][c], at);
    }
}

constexpr int product_vectors = lanes == 8 ? 2 : 4;  // of columns: AVX2 has 16 registers

template <Start start, bool subtract, int R>
HWY_INLINE void product_columns(const FloatProduct& x, int row, int n, int col, int last) {
  constexpr int block = product_vectors * lanes;
  for (; col + block <= last; col += block) product_tile<start, subtract, R, product_vectors, false>(x, row, n, col, 0);
  for (; col + lanes <= last; col += lanes) product_tile<start, subtract, R, 1, false>(x, row, n, col, 0);
  if (col < last) product_tile<start, subtract, R, 1, true>(x, row, n, col, last - col);
}

/// Rows row..row+rows-1 (at most 4), columns col..last-1.
template <Start start, bool subtract = false>
inline void product_rows(const FloatProduct& x, int row, int rows, int n, int col, int last) {
  if (rows == 4) return product_columns<start, subtract, 4>(x, row, n, col, last);
  if (rows & 2) product_columns<start, subtract, 2>(x, row, n, col, last);
  if (rows & 1) product_columns<start, subtract, 1>(x, row + (rows & 2), n, col, last);
}

HWY_INLINE int rows_of_block(int row, int rows) {
  return rows - row < 4 ? rows - row : 4;
}

template <Start start>
inline void product(const FloatProduct& x, int rows, int n, int cols) {
  for (int row = 0; row < rows; row += 4) product_rows<start>(x, row, rows_of_block(row, rows), n, 0, cols);
}

// ---- out = a b^T, along the rows of both

/// The sums over lanes of v[0..3], one a lane of 128-bit blocks: each block by itself.
HWY_INLINE F sum_in_blocks(const F (&v)[4]) {
  const F ab = hn::Add(hn::InterleaveLower(tag, v[0], v[1]), hn::InterleaveUpper(tag, v[0], v[1]));
  const F cd = hn::Add(hn::InterleaveLower(tag, v[2], v[3]), hn::InterleaveUpper(tag, v[2], v[3]));
  const hn::Repartition<double, Tag> pairs;  // two floats each
  const auto low = hn::InterleaveLower(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd));
  const auto high = hn::InterleaveUpper(pairs, hn::BitCast(pairs, ab), hn::BitCast(pairs, cd));
  return hn::Add(hn::BitCast(tag, low), hn::BitCast(tag, high));
}

#if HWY_MAX_BYTES == 64
constexpr int dots_rows = 4;
// Block b of the result: the sum of the four blocks of row b.
HWY_INLINE F fold(F row0, F row1, F row2, F row3) {
  const F a = hn::Add(hn::ConcatLowerLower(tag, row2, row0), hn::ConcatUpperUpper(tag, row2, row0));
  const F b = hn::Add(hn::ConcatLowerLower(tag, row3, row1), hn::ConcatUpperUpper(tag, row3, row1));
  return hn::Add(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a), hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a)));
}
template <int R>
HWY_INLINE void store_dots(const F (&sum)[R][4], float* out, std::ptrdiff_t stride) {
  F folded[4];
  for (int k = 0; k < 4; ++k)
    folded[k] = fold(sum[0][k], R > 1 ? sum[R > 1 ? 1 : 0][k] : zero(), R > 2 ? sum[R > 2 ? 2 : 0][k] : zero(),
                     R > 3 ? sum[R > 3 ? 3 : 0][k] : zero());
  const F sums = sum_in_blocks(folded);
  const __m512 raw = sums.raw;
  _mm_storeu_ps(out, _mm512_castps512_ps128(raw));
  if constexpr (R > 1) _mm_storeu_ps(out + stride, _mm512_extractf32x4_ps(raw, 1));
  if constexpr (R > 2) _mm_storeu_ps(out + 2 * stride, _mm512_extractf32x4_ps(raw, 2));
  if constexpr (R > 3) _mm_storeu_ps(out + 3 * stride, _mm512_extractf32x4_ps(raw, 3));
}
#elif HWY_MAX_BYTES == 32
constexpr int dots_rows = 2;
template <int R>
HWY_INLINE void store_dots(const F (&sum)[R][4], float* out, std::ptrdiff_t stride) {
  F folded[4];
  for (int k = 0; k < 4; ++k) {
    const F other = R > 1 ? sum[R - 1][k] : zero();
    folded[k] = hn::Add(hn::ConcatLowerLower(tag, other, sum[0][k]), hn::ConcatUpperUpper(tag, other, sum[0][k]));
  }
  const __m256 raw = sum_in_blocks(folded).raw;
  _mm_storeu_ps(out, _mm256_castps256_ps128(raw));
  if constexpr (R > 1) _mm_storeu_ps(out + stride, _mm256_extractf128_ps(raw, 1));
}
#else
constexpr int dots_rows = 2;
template <int R>
HWY_INLINE void store_dots(const F (&sum)[R][4], float* out, std::ptrdiff_t stride) {
  for (int r = 0; r < R; ++r) store(sum_in_blocks(sum[r]), out + r * stride);
}
#endif

//   for r in R:  for k in 4:  out[r, k] = sum_c a[r, c] * b[k, c];  of the last keys < 4 rows of b the first is read
//   instead
template <int R>
HWY_INLINE void dots_tile(const float* a, std::ptrdiff_t a_stride, const float* b, std::ptrdiff_t b_stride, int keys,
                          int dim, float* out, std::ptrdiff_t out_stride) {
  const float* b_row[4];
  for (int k = 0; k < 4; ++k) b_row[k] = b + (k < keys ? k : 0) * b_stride;
  F sum[R][4];
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < 4; ++k) sum[r][k] = zero();
  int c = 0;
  for (; c + lanes <= dim; c += lanes) {
    F right[4];
    for (int k = 0; k < 4; ++k) right[k] = load(b_row[k] + c);
    for (int r = 0; r < R; ++r) {
      const F left = load(a + r * a_stride + c);
      for (int k = 0; k < 4; ++k) sum[r][k] = hn::MulAdd(left, right[k], sum[r][k]);
    }
  }
  if (c < dim)
    for (int r = 0; r < R; ++r)
      for (int k = 0; k < 4; ++k)
        sum[r][k] = hn::MulAdd(load_tail(a + r * a_stride + c, dim - c), load_tail(b_row[k] + c, dim - c), sum[r][k]);
  store_dots<R>(sum, out, out_stride);
}

/// `rows` rows of a (at most 4) with up to 4 of b; writes 4 floats of each row of out.
HWY_INLINE void dots(const float* a, std::ptrdiff_t a_stride, int rows, const float* b, std::ptrdiff_t b_stride,
                     int keys, int dim, float* out, std::ptrdiff_t out_stride) {
  int r = 0;
  if constexpr (dots_rows == 4) {
    if (rows == 4) return dots_tile<dots_rows>(a, a_stride, b, b_stride, keys, dim, out, out_stride);
  }
  for (; r + 2 <= rows; r += 2)
    dots_tile<2>(a + r * a_stride, a_stride, b, b_stride, keys, dim, out + r * out_stride, out_stride);
  if (r < rows) dots_tile<1>(a + r * a_stride, a_stride, b, b_stride, keys, dim, out + r * out_stride, out_stride);
}

// ---- transposition

/// out[c, r] = in[r, c] for `rows` x `cols`; rows of out are filled with zeros up to a multiple of 16, which out_stride
/// must allow.
inline void transpose(const float* in, std::ptrdiff_t stride, int rows, int cols, float* out,
                      std::ptrdiff_t out_stride) {
  const hn::FixedTag<float, 4> four;
  const hn::FixedTag<double, 2> two;
  const auto pair = [=](auto v) { return hn::BitCast(two, v); };
  const auto quad = [=](auto v) { return hn::BitCast(four, v); };
  const int padded = (rows + 15) / 16 * 16;
  alignas(16) static constexpr float nothing[4] = {0, 0, 0, 0};
  int c = 0;
  for (; c + 4 <= cols; c += 4)
    for (int r = 0; r < padded; r += 4) {
      const float* from = in + r * stride + c;
      const auto a = hn::LoadU(four, r < rows ? from : nothing),
                 b = hn::LoadU(four, r + 1 < rows ? from + stride : nothing);
      const auto d = hn::LoadU(four, r + 2 < rows ? from + 2 * stride : nothing),
                 e = hn::LoadU(four, r + 3 < rows ? from + 3 * stride : nothing);
      const auto ab_low = hn::InterleaveLower(four, a, b), ab_high = hn::InterleaveUpper(four, a, b);
      const auto de_low = hn::InterleaveLower(four, d, e), de_high = hn::InterleaveUpper(four, d, e);
      float* to = out + c * out_stride + r;
      hn::StoreU(quad(hn::InterleaveLower(two, pair(ab_low), pair(de_low))), four, to);
      hn::StoreU(quad(hn::InterleaveUpper(two, pair(ab_low), pair(de_low))), four, to + out_stride);
      hn::StoreU(quad(hn::InterleaveLower(two, pair(ab_high), pair(de_high))), four, to + 2 * out_stride);
      hn::StoreU(quad(hn::InterleaveUpper(two, pair(ab_high), pair(de_high))), four, to + 3 * out_stride);
    }
  for (; c < cols; ++c)
    for (int r = 0; r < padded; ++r) out[c * out_stride + r] = r < rows ? in[r * stride + c] : 0.0f;
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
