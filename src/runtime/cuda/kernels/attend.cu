#include "runtime/cuda/kernels/attend.h"

#include <cuda_fp16.h>

#include "runtime/cuda/kernels/launch.cuh"
#include "runtime/cuda/kernels/query_planes.h"
#include "runtime/cuda/kernels/tensor.cuh"

namespace tqkv::cuda {
namespace {

constexpr float nothing = -1e30f;  // log2 of a weight that is none

/// Two bytes of a word as halves less 127: what is left of a level is half a step.
__device__ __forceinline__ std::uint32_t halves_of(std::uint32_t bytes, std::uint32_t selector) {
  const std::uint32_t biased = permute_bytes(bytes, 0x64646464u, selector);  // 1024 + byte
  const __half2 value = __hsub2(*reinterpret_cast<const __half2*>(&biased), __floats2half2_rn(1151.0f, 1151.0f));
  return *reinterpret_cast<const std::uint32_t*>(&value);
}
__device__ __forceinline__ std::uint32_t packed(float low, float high) {
  const __half2 two = __floats2half2_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&two);
}

/// A warp's tiles on their way, in shared memory: each stage has a tile of keys, one of values, and their scalars. A lane reads the codes that
/// it asked for itself.
template <int bits, int dim>
struct Stage {
  static constexpr int words = dim * bits / 64;  // of a lane
  static_assert(words % 4 == 0);
  uint4 keys[words / 4][warp_lanes], values[words / 4][warp_lanes];
  __half key_scalars[tile_tokens], value_scalars[tile_tokens];

  __device__ __forceinline__ void ask(const std::uint32_t* page, const PageLayout& layout, int tile, int lane) {
    const std::uint32_t *from_keys = page + tile * words * warp_lanes, *from_values = from_keys + layout.values();
#pragma unroll
    for (int i = 0; i < words / 4; ++i) {
      copy_async<16>(&keys[i][lane], from_keys + (i * warp_lanes + lane) * 4);
      copy_async<16>(&values[i][lane], from_values + (i * warp_lanes + lane) * 4);
    }
    constexpr int pairs = tile_tokens / 2;  // of scalars
    if (lane < pairs)
      copy_async<4>(key_scalars + 2 * lane, page + layout.key_scalars() + tile * pairs + lane);
    else if (lane < 2 * pairs)
      copy_async<4>(value_scalars + 2 * (lane - pairs), page + layout.value_scalars() + tile * pairs + lane - pairs);
  }
  static __device__ __forceinline__ void take(const uint4 (&from)[words / 4][warp_lanes], int lane, std::uint32_t (&to)[words]) {
#pragma unroll
    for (int i = 0; i < words / 4; ++i) {
      const uint4 v = from[i][lane];
      to[4 * i] = v.x;
      to[4 * i + 1] = v.y;
      to[4 * i + 2] = v.z;
      to[4 * i + 3] = v.w;
    }
  }
};
constexpr int stages = 3;  // of a warp: with 4 bits 100 KB a block, as much as cards for consumers have

/// One warp's share of the tokens: weights relative to the largest one, sums of them, and of weighted values.
template <int bits, int dim>
struct Warp {
  static constexpr int blocks = dim / block_channels, words = dim * bits / 64;
  float sums[blocks][4] = {};                        // channel 16b + r (and + 8) of queries 2j and 2j + 1
  float largest[2] = {nothing, nothing};             // of queries 2j, 2j + 1
  float weights[2] = {}, scaled[2] = {};             // of them, and times the scalars of the values
};

template <int bits, int dim>
__global__ void __launch_bounds__(attend_warps * warp_lanes, 1) attend_span(AttendWork work) {
  constexpr int blocks = Warp<bits, dim>::blocks, words = Warp<bits, dim>::words;
  const PageLayout layout = page_layout(bits, bits, dim);
  const int head = static_cast<int>(blockIdx.y), span = static_cast<int>(blockIdx.x);
  const int warp = static_cast<int>(threadIdx.x) / warp_lanes, lane = static_cast<int>(threadIdx.x) % warp_lanes;
  const int r = lane / 4, j = lane % 4;
  const int first_tile = work.first / tile_tokens, tiles = (work.end + tile_tokens - 1) / tile_tokens - first_tile;
  const int begin = first_tile + static_cast<int>(static_cast<long long>(tiles) * span / work.spans),
            end = first_tile + static_cast<int>(static_cast<long long>(tiles) * (span + 1) / work.spans);

  wait_for_earlier();
  let_next_begin();
  std::uint32_t query[2][blocks];
#pragma unroll
  for (int plane = 0; plane < 2; ++plane)
#pragma unroll
    for (int b = 0; b < blocks; ++b) query[plane][b] = work.planes[((head * 2 + plane) * blocks + b) * warp_lanes + lane];
  AttendQuery own[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) own[i] = work.queries[head * group_queries + 2 * j + i];

  Warp<bits, dim> state;
  extern __shared__ __align__(16) unsigned char shared[];
  auto* ring = reinterpret_cast<Stage<bits, dim>*>(shared) + warp * stages;
  const int start = begin + warp;
  const auto ask = [&](int number) {
    const int tile = start + number * attend_warps;
    if (tile < end)
      ring[number % stages].ask(work.pages[tile / page_tiles * work.kv_heads + head], layout, tile % page_tiles, lane);
    commit_copies();
  };
#pragma unroll
  for (int i = 0; i < stages; ++i) ask(i);
  int number = 0;
  for (int tile = start; tile < end; tile += attend_warps, ++number) {
    Stage<bits, dim>& stage = ring[number % stages];
    wait_for_copies<stages - 1>();
    __syncwarp();
    std::uint32_t keys[words];
    stage.take(stage.keys, lane, keys);

    // Scores of 16 tokens and 8 queries, as log2 of weights.
    int high[4] = {}, low[4] = {};
#pragma unroll
    for (int b = 0; b < blocks; b += 2) {
      const BlockBytes one = decode_block<bits>(work.key_levels, keys, dim, b),
                       two = decode_block<bits>(work.key_levels, keys, dim, b + 1);
      multiply_bytes(high, one.row, one.next, two.row, two.next, query[0][b], query[0][b + 1]);
      multiply_bytes(low, one.row, one.next, two.row, two.next, query[1][b], query[1][b + 1]);
    }
    // Of a token that is not seen, nothing counts, whatever its page holds.
    float scores[4], value_scalars[2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const AttendQuery& q = own[i % 2];
      const int row = r + i / 2 * 8, token = tile * tile_tokens + row;
      const bool seen = token >= work.first && token < work.end;
      scores[i] = seen ? score(high[i], low[i], {q.high, q.low}, q.step, __half2float(stage.key_scalars[row])) : nothing;
      value_scalars[i / 2] = seen ? __half2float(stage.value_scalars[row]) : 0.0f;
    }

    // A larger weight than those before: what is summed up shrinks.
    float now[2] = {fmaxf(scores[0], scores[2]), fmaxf(scores[1], scores[3])};
    if (__any_sync(~0u, now[0] > state.largest[0] || now[1] > state.largest[1])) {
#pragma unroll
      for (int q = 0; q < 2; ++q) {
#pragma unroll
        for (int step = 4; step < 32; step *= 2) now[q] = fmaxf(now[q], __shfl_xor_sync(~0u, now[q], step));
        now[q] = fmaxf(now[q], state.largest[q]);
        const float factor = exp2f(state.largest[q] - now[q]);
        state.largest[q] = now[q];
        state.weights[q] *= factor;
        state.scaled[q] *= factor;
#pragma unroll
        for (int b = 0; b < blocks; ++b) {
          state.sums[b][q] *= factor;
          state.sums[b][q + 2] *= factor;
        }
      }
    }
    float weights[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      weights[i] = exp2f(scores[i] - state.largest[i % 2]);
      state.weights[i % 2] += weights[i];
      weights[i] *= value_scalars[i / 2];
    }
    // Tokens become the inner side of the next product: weights [16 tokens, 8 queries] from rows to columns.
    const std::uint32_t upper = packed(weights[0], weights[1]), lower = packed(weights[2], weights[3]);
    const float2 upper_rounded = __half22float2(*reinterpret_cast<const __half2*>(&upper)),
                 lower_rounded = __half22float2(*reinterpret_cast<const __half2*>(&lower));
    state.scaled[0] += upper_rounded.x + lower_rounded.x;
    state.scaled[1] += upper_rounded.y + lower_rounded.y;
    const std::uint32_t b0 = transposed(upper), b1 = transposed(lower);
    std::uint32_t values[words];
    stage.take(stage.values, lane, values);
#pragma unroll
    for (int b = 0; b < blocks; ++b) {
      const BlockBytes bytes = decode_block<bits>(work.value_levels, values, dim, b);
      multiply_halves<false>(state.sums[b], halves_of(bytes.row, 0x4140), halves_of(bytes.next, 0x4140),
                             halves_of(bytes.row, 0x4342), halves_of(bytes.next, 0x4342), b0, b1);
    }
    __syncwarp();
    ask(number + stages);
  }

  // The sums of a warp over its 8 rows of lanes, then of the block over its warps.
#pragma unroll
  for (int q = 0; q < 2; ++q)
#pragma unroll
    for (int step = 4; step < 32; step *= 2) {
      state.weights[q] += __shfl_xor_sync(~0u, state.weights[q], step);
      state.scaled[q] += __shfl_xor_sync(~0u, state.scaled[q], step);
    }
  __syncthreads();  // nobody waits for tiles any more
  float* sums = reinterpret_cast<float*>(shared);  // [warps][dim * 8]
  __shared__ float largest[attend_warps][group_queries], weight[attend_warps][group_queries];
#pragma unroll
  for (int b = 0; b < blocks; ++b)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int channel = b * block_channels + r + i / 2 * 8;
      // Bytes less 127 are half a step too large.
      sums[(warp * dim + channel) * group_queries + 2 * j + i % 2] = state.sums[b][i] - 0.5f * state.scaled[i % 2];
    }
  if (r == 0)
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      largest[warp][2 * j + q] = state.largest[q];
      weight[warp][2 * j + q] = state.weights[q];
    }
  __syncthreads();
  float* partial = work.partials + static_cast<std::size_t>(head * work.spans + span) * partial_floats(dim);
  const int mine = static_cast<int>(threadIdx.x) % group_queries;
  float most = nothing, factors[attend_warps], all = 0;
#pragma unroll
  for (int w = 0; w < attend_warps; ++w) most = fmaxf(most, largest[w][mine]);
#pragma unroll
  for (int w = 0; w < attend_warps; ++w) {
    factors[w] = exp2f(largest[w][mine] - most);
    all += factors[w] * weight[w][mine];
  }
  for (int i = static_cast<int>(threadIdx.x); i < dim * group_queries; i += attend_warps * warp_lanes) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < attend_warps; ++w) sum += factors[w] * sums[w * dim * group_queries + i];
    partial[i] = sum;
  }
  if (threadIdx.x < group_queries) {
    partial[dim * group_queries + mine] = most;
    partial[dim * group_queries + group_queries + mine] = all;
  }
}

constexpr int combine_threads = 256;

/// Spans become the result: a block has 32 (channel, query) pairs at a time, in 8 slices of the spans.
template <int dim>
__global__ void __launch_bounds__(combine_threads) combine_spans(AttendWork work, float step) {
  __shared__ float factors[most_spans][group_queries], inverse[group_queries];
  constexpr int slices = 8, pairs = combine_threads / slices;
  __shared__ float sums[slices][pairs];
  const int blocks_of_head = dim * group_queries / pairs;
  const int head = static_cast<int>(blockIdx.x) / blocks_of_head, first = static_cast<int>(blockIdx.x) % blocks_of_head * pairs;
  const float* partials = work.partials + static_cast<std::size_t>(head * work.spans) * partial_floats(dim);
  const int warp = static_cast<int>(threadIdx.x) / warp_lanes, lane = static_cast<int>(threadIdx.x) % warp_lanes;

  wait_for_earlier();
  let_next_begin();
  // A warp for each query: the largest weight of all spans, and what each span counts.
  float most[most_spans / warp_lanes], weight[most_spans / warp_lanes], top = nothing;
#pragma unroll
  for (int k = 0; k < most_spans / warp_lanes; ++k) {
    const int span = lane + k * warp_lanes;
    const float* end = partials + static_cast<std::size_t>(span) * partial_floats(dim) + dim * group_queries;
    most[k] = span < work.spans ? end[warp] : nothing;
    weight[k] = span < work.spans ? end[group_queries + warp] : 0.0f;
    top = fmaxf(top, most[k]);
  }
  const int pair = static_cast<int>(threadIdx.x) % pairs, slice = static_cast<int>(threadIdx.x) / pairs;
  float values[most_spans / slices];
#pragma unroll
  for (int k = 0; k < most_spans / slices; ++k) {
    const int span = slice + k * slices;
    values[k] = span < work.spans ? partials[static_cast<std::size_t>(span) * partial_floats(dim) + first + pair] : 0.0f;
  }
#pragma unroll
  for (int step_of = 16; step_of > 0; step_of /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step_of));
  float all = 0;
#pragma unroll
  for (int k = 0; k < most_spans / warp_lanes; ++k) {
    const float factor = exp2f(most[k] - top);
    factors[lane + k * warp_lanes][warp] = factor;
    all += factor * weight[k];
  }
#pragma unroll
  for (int step_of = 16; step_of > 0; step_of /= 2) all += __shfl_xor_sync(~0u, all, step_of);
  if (lane == 0) inverse[warp] = all > 0.0f ? step / all : 0.0f;
  __syncthreads();

  const int query = (first + pair) % group_queries, channel = (first + pair) / group_queries;
  float sum = 0;
#pragma unroll
  for (int k = 0; k < most_spans / slices; ++k) sum += factors[slice + k * slices][query] * values[k];
  sums[slice][pair] = sum;
  __syncthreads();
  if (slice > 0) return;
#pragma unroll
  for (int k = 1; k < slices; ++k) sum += sums[k][pair];
  work.out[(head * group_queries + query) * dim + channel] = sum * inverse[query];
}

template <int bits, int dim>
void launch(const AttendWork& work, cudaStream_t stream, bool combine) {
  constexpr int sums = attend_warps * dim * group_queries * static_cast<int>(sizeof(float)),
                ring = attend_warps * stages * static_cast<int>(sizeof(Stage<bits, dim>)), shared = sums > ring ? sums : ring;
  static const bool prepared = [] {
    prepare(attend_span<bits, dim>, shared);
    prepare(combine_spans<dim>, 0);
    return true;
  }();
  static_cast<void>(prepared);
  launch_behind(attend_span<bits, dim>, dim3(static_cast<unsigned>(work.spans), static_cast<unsigned>(work.kv_heads)),
                attend_warps * warp_lanes, shared, stream, work);
  if (!combine) return;
  const float step = work.value_levels.step / sqrtf(static_cast<float>(dim));
  launch_behind(combine_spans<dim>, dim3(static_cast<unsigned>(work.kv_heads * dim * group_queries / 32)), combine_threads, 0, stream, work, step);
}

}  // namespace

bool attend(int bits, int dim, const AttendWork& work, CUstream_st* stream, bool combine) {
  if (dim != 256 || work.spans < 1 || work.spans > most_spans) return false;
  switch (bits) {
    case 2:
      launch<2, 256>(work, stream, combine);
      return true;
    case 3:
      launch<3, 256>(work, stream, combine);
      return true;
    case 4:
      launch<4, 256>(work, stream, combine);
      return true;
    default:
      return false;
  }
}

}  // namespace tqkv::cuda
