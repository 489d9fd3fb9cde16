// What kernels use of Metal, for nvcc: a warp is a simdgroup, a block a threadgroup. Behind it come the texts of kernels,
// each in a namespace of its own and without address spaces.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

using uint = unsigned;
using ushort = unsigned short;
using bfloat16_t = __nv_bfloat16;
using float16_t = half;

struct Buffers {
  void* of[12];
};

struct Position {
  uint3 thread_position_in_grid, threadgroup_position_in_grid, threadgroups_per_grid;
  uint simdgroup_index_in_threadgroup, thread_index_in_simdgroup;
  __device__ Position()
      : thread_position_in_grid(make_uint3(blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y, blockIdx.z)),
        threadgroup_position_in_grid(make_uint3(blockIdx.x, blockIdx.y, blockIdx.z)),
        threadgroups_per_grid(make_uint3(gridDim.x, gridDim.y, gridDim.z)),
        simdgroup_index_in_threadgroup(threadIdx.x / 32),
        thread_index_in_simdgroup(threadIdx.x % 32) {}
};

enum class mem_flags { mem_none, mem_device, mem_threadgroup };
static __device__ void threadgroup_barrier(mem_flags) {
  __syncthreads();
}
template <typename T>
static __device__ T simd_shuffle_xor(T value, ushort mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
static __device__ float simd_sum(float value) {
  for (ushort apart = 16; apart > 0; apart /= 2) value += simd_shuffle_xor(value, apart);
  return value;
}
static __device__ float simd_max(float value) {
  for (ushort apart = 16; apart > 0; apart /= 2) value = max(value, simd_shuffle_xor(value, apart));
  return value;
}
template <typename To, typename From>
static __device__ To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
