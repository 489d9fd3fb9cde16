// Metal's language for a C++ compiler: what the kernels use of it and no more. A lane runs as one call; what lanes do
// together goes through the host. Address spaces are nothing here: the lint has them.
#pragma once
#include "host.h"

using uint = unsigned;
using ushort = unsigned short;
using uint3 = tqkv::test::emulator::Three;
using size_t = decltype(sizeof(0));
using int32_t = int;
using uint32_t = unsigned;
using uint16_t = unsigned short;

#define device
#define constant
#define thread

namespace tqkv_emulated {

inline const tqkv::test::emulator::Host* host = nullptr;

template <typename To, typename From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

inline float half_to_float(uint16_t bits) {
  const uint sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, fraction = bits & 1023u;
  if (exponent == 0) {
    const float small = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -small : small;
  }
  if (exponent == 31) return same_bits<float>(sign | 0x7f800000u | (fraction << 13));
  return same_bits<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

/// To nearest, ties to even.
inline uint16_t float_to_half(float value) {
  const uint bits = same_bits<uint>(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // below the smallest normal half: a multiple of 2^-24
    const float scaled = same_bits<float>(magnitude) * 0x1p24f;
    uint whole = static_cast<uint>(scaled);
    const float rest = scaled - static_cast<float>(whole);
    if (rest > 0.5f || (rest == 0.5f && (whole & 1u) != 0)) ++whole;
    return static_cast<uint16_t>(sign | whole);
  }
  const uint rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

/// What all lanes of the simdgroup brought.
template <typename T>
struct All {
  T of[tqkv::test::emulator::simdgroup_lanes];
  All(const char* what, int line, T brought) { host->exchange(what, line, &brought, sizeof brought, of); }
};

}  // namespace tqkv_emulated

struct half {
  uint16_t bits;
  half() = default;
  explicit half(float value) : bits(tqkv_emulated::float_to_half(value)) {}
  operator float() const { return tqkv_emulated::half_to_float(bits); }
};
struct bfloat16_t {
  uint16_t bits;
  operator float() const { return tqkv_emulated::same_bits<float>(static_cast<uint>(bits) << 16); }
};
using float16_t = half;

namespace metal {

enum class mem_flags { mem_none, mem_device, mem_threadgroup };

inline void threadgroup_barrier(mem_flags, int line = __builtin_LINE()) {
  tqkv_emulated::host->barrier("threadgroup_barrier", line);
}

inline float simd_sum(float value, int line = __builtin_LINE()) {
  tqkv_emulated::All<float> all("simd_sum", line, value);
  for (int apart = 16; apart > 0; apart /= 2)
    for (int i = 0; i < apart; i++) all.of[i] += all.of[i + apart];
  return all.of[0];
}

inline float simd_max(float value, int line = __builtin_LINE()) {
  const tqkv_emulated::All<float> all("simd_max", line, value);
  float largest = all.of[0];
  for (const float other : all.of) largest = largest < other ? other : largest;
  return largest;
}

template <typename T>
T simd_shuffle_xor(T value, ushort mask, int line = __builtin_LINE()) {
  const tqkv_emulated::All<T> all("simd_shuffle_xor", line, value);
  return all.of[tqkv_emulated::host->lane() ^ mask];
}

template <typename To, typename From>
To as_type(From from) {
  return tqkv_emulated::same_bits<To>(from);
}

inline float abs(float value) {
  return __builtin_fabsf(value);
}
inline int min(int a, int b) {
  return b < a ? b : a;
}
inline uint min(uint a, uint b) {
  return b < a ? b : a;
}
inline float min(float a, float b) {
  return b < a ? b : a;
}
inline int max(int a, int b) {
  return a < b ? b : a;
}
inline uint max(uint a, uint b) {
  return a < b ? b : a;
}
inline float max(float a, float b) {
  return a < b ? b : a;
}
inline float exp(float x) {
  return __builtin_expf(x);
}
inline float sqrt(float x) {
  return __builtin_sqrtf(x);
}

}  // namespace metal
using namespace metal;

#define threadgroup
