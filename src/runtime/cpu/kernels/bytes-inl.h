// Plain memory: bytes, bit fields and bf16 at any address.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/cpu/kernels/isa.h"

namespace tqkv::cpu::TQKV_ISA {

using Byte = unsigned char;

HWY_INLINE const Byte* bytes(const std::byte* p) {
  return reinterpret_cast<const Byte*>(p);
}
HWY_INLINE Byte* bytes(std::byte* p) {
  return reinterpret_cast<Byte*>(p);
}

/// The T whose bytes begin at p, at any address.
template <class T>
HWY_INLINE T load_bits(const Byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

HWY_INLINE float bf16_at(const Byte* p) {
  const std::uint32_t bits = static_cast<std::uint32_t>(load_bits<std::uint16_t>(p)) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

HWY_INLINE int smaller(int a, int b) {
  return a < b ? a : b;
}

}  // namespace tqkv::cpu::TQKV_ISA
