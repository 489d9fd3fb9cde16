#include "runtime/cuda/kernels/gemv.h"

#include "runtime/cuda/kernels/launch.cuh"
#include "runtime/cuda/kernels/tensor.cuh"

namespace tqkv::cuda {
namespace {

constexpr int threads = 256, warps = threads / warp_lanes, rows_at_once = 4;

__device__ __forceinline__ float from_bf16(std::uint16_t bits) {
  return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
}
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
  return x;
}
__device__ __forceinline__ float warp_largest(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
  return x;
}

/// The vector as planes in shared memory, with the step of each group and the sum of each chunk.
template <int in>
struct Staged {
  std::uint32_t planes[in / chunk_channels * chunk_stride];
  float steps[in / weight_group], sums[in / chunk_channels];
};

/// A warp has a group at a time, two channels a lane.
template <int in>
__device__ void stage(const float* x, const float* norm, float eps, Staged<in>& to) {
  __shared__ float parts[warps];
  const int warp = static_cast<int>(threadIdx.x) / warp_lanes, lane = static_cast<int>(threadIdx.x) % warp_lanes;
  float factor = 1.0f;
  if (norm) {
    float squares = 0;
    for (int i = static_cast<int>(threadIdx.x); i < in; i += threads) squares += x[i] * x[i];
    squares = warp_sum(squares);
    if (lane == 0) parts[warp] = squares;
    __syncthreads();
    squares = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) squares += parts[w];
    factor = rsqrtf(squares / static_cast<float>(in) + eps);
  }
#pragma unroll
  for (int group = warp; group < in / weight_group; group += warps) {
    float values[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {  // one of each chunk of the group
      const int channel = group * weight_group + i * chunk_channels + lane;
      values[i] = x[channel] * factor * (norm ? norm[channel] : 1.0f);
    }
    const float step = plane_step(warp_largest(fmaxf(fabsf(values[0]), fabsf(values[1]))));
    if (lane == 0) to.steps[group] = step;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const PlaneBytes bytes = plane_bytes(values[i], step);
      const PlanePlace place = plane_place(group * weight_group + i * chunk_channels + lane);
      auto* all = reinterpret_cast<std::int8_t*>(to.planes);
      all[place.high * 4 + place.byte] = static_cast<std::int8_t>(bytes.high);
      all[place.low * 4 + place.byte] = static_cast<std::int8_t>(bytes.low);
      const float sum = warp_sum(static_cast<float>(bytes.high * 256 + bytes.low));
      if (lane == 0) to.sums[group * 2 + i] = sum * step;
    }
  }
  __syncthreads();
}

/// What a lane has of four rows: a chunk of every 32.
template <int in>
struct Loaded {
  static constexpr int chunks = in / chunk_channels / warp_lanes;
  uint4 codes[rows_at_once][chunks];
  std::uint16_t scales[rows_at_once][chunks], biases[rows_at_once][chunks];
};
template <int in>
__device__ __forceinline__ void load(const QuantizedRows& w, int row, int lane, Loaded<in>& to) {
  if (row >= w.rows) return;
#pragma unroll
  for (int i = 0; i < rows_at_once; ++i)
#pragma unroll
    for (int c = 0; c < Loaded<in>::chunks; ++c) {
      const int chunk = c * warp_lanes + lane;
      const std::size_t own = static_cast<std::size_t>(row + i);
      to.codes[i][c] = load16(w.codes + own * (in / 8) + chunk * 4);
      to.scales[i][c] = __ldg(w.scales + own * (in / weight_group) + chunk / 2);
      to.biases[i][c] = __ldg(w.biases + own * (in / weight_group) + chunk / 2);
    }
}

template <int in>
__global__ void __launch_bounds__(threads, in > 2048 ? 1 : 2)
    multiply_rows(QuantizedRows w, const float* __restrict__ x, const float* __restrict__ norm, float eps, float* __restrict__ y) {
  constexpr int chunks = Loaded<in>::chunks;
  __shared__ Staged<in> staged;
  const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
  const int first = (static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / warp_lanes) * rows_at_once,
            step = static_cast<int>(gridDim.x) * warps * rows_at_once;
  Loaded<in> next;
  load(w, first, lane, next);  // weights do not depend on earlier kernels
  wait_for_earlier();
  let_next_begin();
  stage(x, norm, eps, staged);
  for (int row = first; row < w.rows; row += step) {
    const Loaded<in> now = next;
    load(w, row + step, lane, next);
    float sums[rows_at_once] = {};
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      const int chunk = c * warp_lanes + lane;
      std::int32_t high[rows_at_once] = {}, low[rows_at_once] = {};
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const uint4 planes = *reinterpret_cast<const uint4*>(staged.planes + chunk * chunk_stride + word * 4);
        const std::uint32_t own[4] = {planes.x, planes.y, planes.z, planes.w};
#pragma unroll
        for (int i = 0; i < rows_at_once; ++i) {
          const uint4& all = now.codes[i][c];
          multiply_word(word == 0 ? all.x : word == 1 ? all.y : word == 2 ? all.z : all.w, own, high[i], low[i]);
        }
      }
      const float step_of = staged.steps[chunk / 2], sum_of = staged.sums[chunk];
#pragma unroll
      for (int i = 0; i < rows_at_once; ++i)
        sums[i] += from_bf16(now.scales[i][c]) * (static_cast<float>(high[i] * 256 + low[i]) * step_of) + from_bf16(now.biases[i][c]) * sum_of;
    }
    // Four sums over 32 lanes in six steps: lanes first swap what they do not keep.
    const bool odd = lane & 1, upper = lane & 2;
    const float a = (odd ? sums[1] : sums[0]) + __shfl_xor_sync(~0u, odd ? sums[0] : sums[1], 1),
                b = (odd ? sums[3] : sums[2]) + __shfl_xor_sync(~0u, odd ? sums[2] : sums[3], 1);
    float sum = (upper ? b : a) + __shfl_xor_sync(~0u, upper ? a : b, 2);
#pragma unroll
    for (int s = 4; s < 32; s *= 2) sum += __shfl_xor_sync(~0u, sum, s);
    if (lane < rows_at_once) y[row + lane] = sum;
  }
}

template <int in>
bool launch(const QuantizedRows& w, const float* x, const float* norm, float eps, float* y, int blocks, cudaStream_t stream) {
  static const bool prepared = [] {
    prepare(multiply_rows<in>, 0);
    return true;
  }();
  static_cast<void>(prepared);
  launch_behind(multiply_rows<in>, dim3(static_cast<unsigned>(blocks)), threads, 0, stream, w, x, norm, eps, y);
  return true;
}

}  // namespace

bool multiply(const QuantizedRows& w, const float* x, const float* norm, float eps, float* y, int blocks, CUstream_st* stream) {
  if (w.rows < 1 || w.rows % rows_at_once != 0) return false;
  switch (w.in) {
    case 1024:
      return launch<1024>(w, x, norm, eps, y, blocks, stream);
    case 2048:
      return launch<2048>(w, x, norm, eps, y, blocks, stream);
    case 4096:
      return launch<4096>(w, x, norm, eps, y, blocks, stream);
    default:
      return false;
  }
}

}  // namespace tqkv::cuda
