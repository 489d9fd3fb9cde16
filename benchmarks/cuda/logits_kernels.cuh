// q·k over many keys, on packed keys and on plain ones. A warp takes tiles of 16 keys; the loads of a lane's next tile are under way
// while it computes. Logits are [keys, heads] in f32.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>

#include "cuda/logits.h"
#include "runtime/cuda/kernels/fragments.h"
#include "runtime/cuda/kernels/query_planes.h"
#include "runtime/cuda/kernels/tensor.cuh"

namespace tqkv::cuda::logits {

inline constexpr int block_threads = 256, block_warps = block_threads / warp_lanes;

/// A lane's sums of 16 keys and up to 8 heads to where they belong. `heads` 1: columns 2j + 1 and beyond are empty.
template <int heads>
__device__ __forceinline__ void write_logits(float* out, std::size_t tile, int group, const float (&c)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes, row = lane / 4, column = group * 8 + lane % 4 * 2;
  const std::size_t first = tile * tile_tokens + static_cast<std::size_t>(row);
  if constexpr (heads == 1) {
    if (lane % 4 == 0) {
      out[first] = c[0];
      out[first + 8] = c[2];
    }
  } else if (column + 1 < heads) {
    *reinterpret_cast<float2*>(out + first * heads + column) = make_float2(c[0], c[1]);
    *reinterpret_cast<float2*>(out + (first + 8) * heads + column) = make_float2(c[2], c[3]);
  } else if (column < heads) {
    out[first * heads + column] = c[0];
    out[(first + 8) * heads + column] = c[2];
  }
}

struct Grid {
  std::size_t warp, warps;
};
__device__ __forceinline__ Grid grid_of_warps() {
  return {(blockIdx.x * static_cast<std::size_t>(block_threads) + threadIdx.x) / warp_lanes,
          gridDim.x * static_cast<std::size_t>(block_warps)};
}

/// Packed keys. `tiles` [tile_words] each, `scalars` f16 [keys], `planes` [groups of 8 heads][2][blocks][32] words.
template <int bits, int dim, int heads>
__global__ void __launch_bounds__(block_threads, heads > 8 ? 1 : 2)
    packed(const std::uint32_t* __restrict__ tiles, const __half* __restrict__ scalars, std::size_t count,
           const std::uint32_t* __restrict__ planes, const QueryFacts* __restrict__ facts, LevelBytes levels, float* out) {
  constexpr int words = dim * bits / 64, blocks = dim / block_channels,
                groups = (heads + 7) / 8;
  static_assert(words * warp_lanes * 32 == tile_tokens * dim * bits);
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  const auto [warp, warps] = grid_of_warps();
  std::uint32_t query[groups][2][blocks];
#pragma unroll
  for (int g = 0; g < groups; ++g)
#pragma unroll
    for (int plane = 0; plane < 2; ++plane)
#pragma unroll
      for (int b = 0; b < blocks; ++b) query[g][plane][b] = planes[((g * 2 + plane) * blocks + b) * warp_lanes + lane];
  QueryFacts own[groups][2];
#pragma unroll
  for (int g = 0; g < groups; ++g)
#pragma unroll
    for (int i = 0; i < 2; ++i) own[g][i] = facts[g * 8 + lane % 4 * 2 + i];

  std::uint32_t next[words];
  __half next_scalar[2];
  const auto load = [&](std::size_t tile) {
    load_words(tiles + tile * (static_cast<std::size_t>(words) * warp_lanes), lane, next);
    next_scalar[0] = scalars[tile * tile_tokens + lane / 4];
    next_scalar[1] = scalars[tile * tile_tokens + lane / 4 + 8];
  };
  if (warp < count) load(warp);
  for (std::size_t tile = warp; tile < count; tile += warps) {
    std::uint32_t now[words];
#pragma unroll
    for (int i = 0; i < words; ++i) now[i] = next[i];
    const float scalar[2] = {__half2float(next_scalar[0]), __half2float(next_scalar[1])};
    if (tile + warps < count) load(tile + warps);
    int high[groups][4] = {}, low[groups][4] = {};
#pragma unroll
    for (int b = 0; b < blocks; b += 2) {
      const BlockBytes one = decode_block<bits>(levels, now, dim, b), two = decode_block<bits>(levels, now, dim, b + 1);
#pragma unroll
      for (int g = 0; g < groups; ++g) {
        multiply_bytes(high[g], one.row, one.next, two.row, two.next, query[g][0][b], query[g][0][b + 1]);
        multiply_bytes(low[g], one.row, one.next, two.row, two.next, query[g][1][b], query[g][1][b + 1]);
      }
    }
#pragma unroll
    for (int g = 0; g < groups; ++g) {
      float c[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        c[i] = score(high[g][i], low[g][i], {own[g][i % 2].high, own[g][i % 2].low}, own[g][i % 2].step, scalar[i / 2]);
      write_logits<heads>(out, tile, g, c);
    }
  }
}

/// Keys [keys, dim] in f32, products and sums in f32 on the ordinary units. `query` [heads, dim], scaled.
template <int dim, int heads>
__global__ void __launch_bounds__(block_threads)
    plain_f32(const float* __restrict__ keys, std::size_t count, const float* __restrict__ query, float* out) {
  constexpr int steps = dim / 16, ahead = 4;  // 16 channels of a key a step, a quarter of them a lane
  __shared__ float4 staged[heads * dim / 4];
  for (int i = static_cast<int>(threadIdx.x); i < heads * dim / 4; i += block_threads)
    staged[i] = reinterpret_cast<const float4*>(query)[i];
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes, j = lane % 4;
  const auto [warp, warps] = grid_of_warps();
  uint4 next[2][ahead];
  const auto load = [&](std::size_t tile, int step) {
    const float* from = keys + (tile * tile_tokens + lane / 4) * dim + j * 4 + step * 16;
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      next[0][i] = load16(from + i * 16);
      next[1][i] = load16(from + 8 * dim + i * 16);
    }
  };
  if (warp < count) load(warp, 0);
  for (std::size_t tile = warp; tile < count; tile += warps) {
    float sum[2][heads] = {};
#pragma unroll
    for (int step = 0; step < steps; step += ahead) {
      uint4 now[2][ahead];
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        now[0][i] = next[0][i];
        now[1][i] = next[1][i];
      }
      if (step + ahead < steps)
        load(tile, step + ahead);
      else if (tile + warps < count)
        load(tile + warps, 0);
#pragma unroll
      for (int i = 0; i < ahead; ++i)
#pragma unroll
        for (int head = 0; head < heads; ++head) {
          const float4 q = staged[head * (dim / 4) + (step + i) * 4 + j];
#pragma unroll
          for (int row = 0; row < 2; ++row) {
            const uint4 k = now[row][i];
            sum[row][head] += __uint_as_float(k.x) * q.x + __uint_as_float(k.y) * q.y + __uint_as_float(k.z) * q.z +
                              __uint_as_float(k.w) * q.w;
          }
        }
    }
#pragma unroll
    for (int head = 0; head < heads; ++head)
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        sum[row][head] += __shfl_xor_sync(~0u, sum[row][head], 1);
        sum[row][head] += __shfl_xor_sync(~0u, sum[row][head], 2);
      }
    // Lane j of four writes the columns that it has in a tensor product.
#pragma unroll
    for (int g = 0; g < (heads + 7) / 8; ++g) {
      float c[4] = {};
#pragma unroll
      for (int head = 0; head < 8; ++head)
        if (g * 8 + head < heads && head / 2 == j) {
          c[head % 2] = sum[0][g * 8 + head];
          c[2 + head % 2] = sum[1][g * 8 + head];
        }
      write_logits<heads>(out, tile, g, c);
    }
  }
}

/// The same keys with products in tf32 on the tensor units, as a matrix library does where TF32 is allowed.
template <int dim, int heads>
__global__ void __launch_bounds__(block_threads)
    plain_tf32(const float* __restrict__ keys, std::size_t count, const float* __restrict__ query, float* out) {
  constexpr int steps = dim / 16, groups = (heads + 7) / 8, ahead = 4;
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes, j = lane % 4;
  const auto [warp, warps] = grid_of_warps();
  std::uint32_t own[groups][steps][4];
#pragma unroll
  for (int g = 0; g < groups; ++g)
#pragma unroll
    for (int step = 0; step < steps; ++step)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int head = g * 8 + lane / 4;
        own[g][step][i] = head < heads ? __float_as_uint(query[head * dim + step * 16 + j * 4 + i]) : 0;
      }
  uint4 next[2][ahead];
  const auto load = [&](std::size_t tile, int step) {
    const float* from = keys + (tile * tile_tokens + lane / 4) * dim + j * 4 + step * 16;
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      next[0][i] = load16(from + i * 16);
      next[1][i] = load16(from + 8 * dim + i * 16);
    }
  };
  if (warp < count) load(warp, 0);
  for (std::size_t tile = warp; tile < count; tile += warps) {
    float c[groups][4] = {};
#pragma unroll
    for (int step = 0; step < steps; step += ahead) {
      uint4 now[2][ahead];
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        now[0][i] = next[0][i];
        now[1][i] = next[1][i];
      }
      if (step + ahead < steps)
        load(tile, step + ahead);
      else if (tile + warps < count)
        load(tile + warps, 0);
#pragma unroll
      for (int i = 0; i < ahead; ++i)
#pragma unroll
        for (int g = 0; g < groups; ++g) {
          const std::uint32_t(&q)[4] = own[g][step + i];
          multiply_tf32(c[g], now[0][i].x, now[1][i].x, now[0][i].y, now[1][i].y, q[0], q[1]);
          multiply_tf32(c[g], now[0][i].z, now[1][i].z, now[0][i].w, now[1][i].w, q[2], q[3]);
        }
    }
#pragma unroll
    for (int g = 0; g < groups; ++g) write_logits<heads>(out, tile, g, c[g]);
  }
}

/// Four bytes of e4m3 as two words of f16.
__device__ __forceinline__ uint2 halves_of(std::uint32_t bytes) {
  const __half2_raw low = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(bytes & 0xffffu), __NV_E4M3),
                    high = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(bytes >> 16), __NV_E4M3);
  return {low.x | static_cast<std::uint32_t>(low.y) << 16, high.x | static_cast<std::uint32_t>(high.y) << 16};
}

/// Keys [keys, dim] of 2 bytes (bf16) or of 1 (e4m3, a scale a key), products of halves. `query` [heads, dim] in bf16 or f16.
template <int bytes, int dim, int heads>
__global__ void __launch_bounds__(block_threads, heads > 8 ? 1 : 2)
    plain_short(const void* __restrict__ keys, const __half* __restrict__ scales, std::size_t count,
                const std::uint16_t* __restrict__ query, float* out) {
  constexpr bool bf16 = bytes == 2;
  constexpr int a_load = 16 / bytes;            // channels of a lane's 16 bytes
  constexpr int loads = dim / (4 * a_load);     // of a row
  constexpr int groups = (heads + 7) / 8, ahead = loads < 4 ? loads : 4;
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes, j = lane % 4;
  const auto [warp, warps] = grid_of_warps();
  std::uint32_t own[groups][loads][a_load / 2];
#pragma unroll
  for (int g = 0; g < groups; ++g)
#pragma unroll
    for (int l = 0; l < loads; ++l)
#pragma unroll
      for (int i = 0; i < a_load / 2; ++i) {
        const int head = g * 8 + lane / 4;
        own[g][l][i] = head < heads ? *reinterpret_cast<const std::uint32_t*>(query + head * dim + l * 4 * a_load + j * a_load + 2 * i) : 0;
      }
  uint4 next[2][ahead];
  __half next_scale[2];
  const auto load = [&](std::size_t tile, int first) {
    const char* from = static_cast<const char*>(keys) +
                       ((tile * tile_tokens + lane / 4) * dim + j * a_load + first * 4 * a_load) * bytes;
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      next[0][i] = load16(from + i * 64);
      next[1][i] = load16(from + 8 * dim * bytes + i * 64);
    }
    if constexpr (!bf16) {
      if (first > 0) return;
      next_scale[0] = scales[tile * tile_tokens + lane / 4];
      next_scale[1] = scales[tile * tile_tokens + lane / 4 + 8];
    }
  };
  if (warp < count) load(warp, 0);
  for (std::size_t tile = warp; tile < count; tile += warps) {
    float c[groups][4] = {}, scale[2] = {1.0f, 1.0f};
    if constexpr (!bf16) {
      scale[0] = __half2float(next_scale[0]);
      scale[1] = __half2float(next_scale[1]);
    }
#pragma unroll
    for (int first = 0; first < loads; first += ahead) {
      uint4 now[2][ahead];
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        now[0][i] = next[0][i];
        now[1][i] = next[1][i];
      }
      if (first + ahead < loads)
        load(tile, first + ahead);
      else if (tile + warps < count)
        load(tile + warps, 0);
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        const std::uint32_t row[4] = {now[0][i].x, now[0][i].y, now[0][i].z, now[0][i].w},
                            below[4] = {now[1][i].x, now[1][i].y, now[1][i].z, now[1][i].w};
#pragma unroll
        for (int g = 0; g < groups; ++g) {
          const std::uint32_t(&q)[a_load / 2] = own[g][first + i];
          if constexpr (bf16) {
            multiply_halves<true>(c[g], row[0], below[0], row[1], below[1], q[0], q[1]);
            multiply_halves<true>(c[g], row[2], below[2], row[3], below[3], q[2], q[3]);
          } else {
#pragma unroll
            for (int w = 0; w < 4; ++w) {
              const uint2 a = halves_of(row[w]), b = halves_of(below[w]);
              multiply_halves<false>(c[g], a.x, b.x, a.y, b.y, q[2 * w], q[2 * w + 1]);
            }
          }
        }
      }
    }
#pragma unroll
    for (int g = 0; g < groups; ++g) {
      const float scaled[4] = {c[g][0] * scale[0], c[g][1] * scale[0], c[g][2] * scale[1], c[g][3] * scale[1]};
      write_logits<heads>(out, tile, g, scaled);
    }
  }
}

/// Reads `count` times 16 bytes, for the rate that a read reaches.
__global__ void __launch_bounds__(block_threads) read_all(const uint4* __restrict__ from, std::size_t count, unsigned* out) {
  const std::size_t first = blockIdx.x * static_cast<std::size_t>(block_threads) + threadIdx.x,
                    step = gridDim.x * static_cast<std::size_t>(block_threads);
  unsigned all = 0;
  for (std::size_t i = first; i < count; i += 4 * step) {
    uint4 v[4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (i + k * step < count) v[k] = load16(from + i + k * step);
#pragma unroll
    for (int k = 0; k < 4; ++k) all ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  if (all == 0x9e3779b9u) *out = all;
}

}  // namespace tqkv::cuda::logits
