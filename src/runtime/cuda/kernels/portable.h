// What a card's code needs so that the same lines run on the host, where the suite tests them.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define TQKV_HD __host__ __device__ __forceinline__
#else
#define TQKV_HD inline
#endif

namespace tqkv::cuda {

/// prmt.b32 of PTX: byte i of the result is the byte of {high, low} that nibble i of `selector` names. Where bit 3 of
/// the nibble is set, all eight bits are that byte's highest one.
TQKV_HD std::uint32_t permute_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
#ifdef __CUDA_ARCH__
  std::uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
#else
  std::uint32_t result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint32_t nibble = selector >> (4 * i) & 15u, from = nibble & 7u;
    std::uint32_t byte = (from < 4 ? low >> (8 * from) : high >> (8 * (from - 4))) & 255u;
    if (nibble & 8u) byte = byte & 128u ? 255u : 0u;
    result |= byte << (8 * i);
  }
  return result;
#endif
}

}  // namespace tqkv::cuda
