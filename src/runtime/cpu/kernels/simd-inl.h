// What the float kernels share: vectors of the widest kind, tails, sums over lanes, exp.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/cpu/kernels/isa.h"

namespace tqkv::cpu::TQKV_ISA::vec {

using Tag = hn::ScalableTag<float>;
using IntTag = hn::RebindToSigned<Tag>;
using F = hn::Vec<Tag>;
constexpr Tag tag{};
constexpr IntTag int_tag{};
constexpr int lanes = static_cast<int>(hn::MaxLanes(Tag{}));

HWY_INLINE F load(const float* p) {
  return hn::LoadU(tag, p);
}
HWY_INLINE void store(F v, float* p) {
  hn::StoreU(v, tag, p);
}
HWY_INLINE F set(float value) {
  return hn::Set(tag, value);
}
HWY_INLINE F zero() {
  return hn::Zero(tag);
}
HWY_INLINE hn::Mask<Tag> first(int n) {
  return hn::FirstN(tag, static_cast<std::size_t>(n));
}
/// The first n < lanes floats at p, zeros behind them; nothing behind them is touched.
#if HWY_MAX_BYTES >= 32
HWY_INLINE F load_tail(const float* p, int n) {
  return hn::MaskedLoad(first(n), tag, p);
}
HWY_INLINE void store_tail(F v, float* p, int n) {
  hn::BlendedStore(v, first(n), tag, p);
}
#else  // where a masked load is a whole one
HWY_INLINE F load_tail(const float* p, int n) {
  alignas(16) float all[lanes] = {};
  std::memcpy(all, p, sizeof(float) * static_cast<std::size_t>(n));
  return hn::Load(tag, all);
}
HWY_INLINE void store_tail(F v, float* p, int n) {
  alignas(16) float all[lanes];
  hn::Store(v, tag, all);
  std::memcpy(p, all, sizeof(float) * static_cast<std::size_t>(n));
}
#endif

HWY_INLINE float sum_of_lanes(F v) {
  return hn::GetLane(hn::SumOfLanes(tag, v));
}

/// exp(x), relative error below 2e-7; 0 below -87.3 (minus infinity too), exp(88.3) above that. x = n ln 2 + r; the
/// polynomial in r is a minimax fit of exp(r) on |r| <= ln(2)/2 with error 3e-9.
HWY_INLINE F exp(F x) {
  const F lowest = set(-87.3f), magic = set(12582912.0f);  // 1.5 * 2^23: added to n, it leaves n in the low bits
  const F bounded = hn::Min(hn::Max(x, lowest), set(88.3f));
  const F shifted = hn::MulAdd(bounded, set(1.44269504f), magic);
  const F n = hn::Sub(shifted, magic);
  F r = hn::NegMulAdd(n, set(0.693359375f), bounded);  // ln 2 in two parts; the first product is exact
  r = hn::MulAdd(n, set(0.00021219444f), r);
  F p = set(0x1.6a23dp-10f);
  p = hn::MulAdd(p, r, set(0x1.123a2p-7f));
  p = hn::MulAdd(p, r, set(0x1.5558f2p-5f));
  p = hn::MulAdd(p, r, set(0x1.555492p-3f));
  p = hn::MulAdd(p, r, set(0x1.fffffcp-2f));
  p = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), set(1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(int_tag, shifted));
  const F result = hn::BitCast(tag, hn::Add(hn::BitCast(int_tag, p), exponent));
  return hn::IfThenElseZero(hn::Ge(x, lowest), result);
}

/// exp of one number, the same bits as the vector has.
HWY_INLINE float exp1(float x) {
  return hn::GetLane(exp(set(x)));
}

/// 1 / x for x from 1 to 2, to 1e-7.
HWY_INLINE F reciprocal(F x) {
#if HWY_MAX_BYTES == 64
  const F guess = hn::ApproximateReciprocal(x);  // 14 bits
  return hn::MulAdd(guess, hn::NegMulAdd(x, guess, set(1.0f)), guess);
#else
  return hn::Div(set(1.0f), x);
#endif
}

/// 1 / (1 + exp(-x)) without overflow for any x.
HWY_INLINE F sigmoid(F x) {
  const F e = exp(hn::Neg(hn::Abs(x)));
  const F one = set(1.0f);
  return hn::Mul(hn::IfThenElse(hn::Lt(x, zero()), e, one), reciprocal(hn::Add(one, e)));
}

/// f(position, count) for every run of `lanes` elements of 0..n-1; count < lanes only for the last.
template <class Function>
HWY_INLINE void for_runs(std::size_t n, Function f) {
  std::size_t i = 0;
  for (; i + static_cast<std::size_t>(lanes) <= n; i += static_cast<std::size_t>(lanes)) f(i, lanes);
  if (i < n) f(i, static_cast<int>(n - i));
}
HWY_INLINE F load_run(const float* p, int n) {
  return n == lanes ? load(p) : load_tail(p, n);
}
HWY_INLINE void store_run(F v, float* p, int n) {
  n == lanes ? store(v, p) : store_tail(v, p, n);
}

/// sum of x[i] y[i], i < n.
HWY_INLINE float dot(const float* x, const float* y, int n) {
  F sum0 = zero(), sum1 = zero(), sum2 = zero(), sum3 = zero();
  int i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    sum0 = hn::MulAdd(load(x + i), load(y + i), sum0);
    sum1 = hn::MulAdd(load(x + i + lanes), load(y + i + lanes), sum1);
    sum2 = hn::MulAdd(load(x + i + 2 * lanes), load(y + i + 2 * lanes), sum2);
    sum3 = hn::MulAdd(load(x + i + 3 * lanes), load(y + i + 3 * lanes), sum3);
  }
  for (; i + lanes <= n; i += lanes) sum0 = hn::MulAdd(load(x + i), load(y + i), sum0);
  if (i < n) sum1 = hn::MulAdd(load_tail(x + i, n - i), load_tail(y + i, n - i), sum1);
  return sum_of_lanes(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)));
}

}  // namespace tqkv::cpu::TQKV_ISA::vec
