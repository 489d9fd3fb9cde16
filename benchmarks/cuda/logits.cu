#include "cuda/logits.h"

#include "cuda/logits_kernels.cuh"

namespace tqkv::cuda::logits {
namespace {

template <int dim, int heads>
bool launch_one(Keys keys, const Buffers& b, std::size_t tiles, int blocks, cudaStream_t stream) {
  const auto* words = static_cast<const std::uint32_t*>(b.keys);
  const auto* scalars = static_cast<const __half*>(b.scalars);
  const auto* planes = static_cast<const std::uint32_t*>(b.query);
  const auto* floats = static_cast<const float*>(b.keys);
  const auto* query = static_cast<const float*>(b.query);
  const auto* halves = static_cast<const std::uint16_t*>(b.query);
  switch (keys) {
    case Keys::turboquant4:
      packed<4, dim, heads><<<blocks, block_threads, 0, stream>>>(words, scalars, tiles, planes, b.facts, b.levels, b.out);
      return true;
    case Keys::turboquant3:
      packed<3, dim, heads><<<blocks, block_threads, 0, stream>>>(words, scalars, tiles, planes, b.facts, b.levels, b.out);
      return true;
    case Keys::turboquant2:
      packed<2, dim, heads><<<blocks, block_threads, 0, stream>>>(words, scalars, tiles, planes, b.facts, b.levels, b.out);
      return true;
    case Keys::f32:
      plain_f32<dim, heads><<<blocks, block_threads, 0, stream>>>(floats, tiles, query, b.out);
      return true;
    case Keys::tf32:
      plain_tf32<dim, heads><<<blocks, block_threads, 0, stream>>>(floats, tiles, query, b.out);
      return true;
    case Keys::bf16:
      plain_short<2, dim, heads><<<blocks, block_threads, 0, stream>>>(b.keys, scalars, tiles, halves, b.out);
      return true;
    case Keys::fp8:
      plain_short<1, dim, heads><<<blocks, block_threads, 0, stream>>>(b.keys, scalars, tiles, halves, b.out);
      return true;
  }
  return false;
}

template <int dim>
bool launch_dim(const Shape& shape, const Buffers& b, std::size_t tiles, int blocks, cudaStream_t stream) {
  switch (shape.heads) {
    case 1:
      return launch_one<dim, 1>(shape.keys, b, tiles, blocks, stream);
    case 8:
      return launch_one<dim, 8>(shape.keys, b, tiles, blocks, stream);
    case 16:
      return launch_one<dim, 16>(shape.keys, b, tiles, blocks, stream);
    default:
      return false;
  }
}

__device__ std::uint32_t hash(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ x >> 16;
}

__global__ void fill_words(std::uint32_t* to, std::size_t words, unsigned seed, std::uint32_t keep, std::uint32_t set) {
  const std::size_t step = gridDim.x * static_cast<std::size_t>(blockDim.x);
  for (std::size_t i = blockIdx.x * static_cast<std::size_t>(blockDim.x) + threadIdx.x; i < words; i += step)
    to[i] = (hash(static_cast<std::uint32_t>(i) * 2654435761u + seed) & keep) | set;
}

}  // namespace

int packed_bits(Keys keys) {
  return keys == Keys::turboquant4 ? 4 : keys == Keys::turboquant3 ? 3 : keys == Keys::turboquant2 ? 2 : 0;
}

std::size_t key_bytes(const Shape& shape) {
  const auto dim = static_cast<std::size_t>(shape.dim);
  if (const int bits = packed_bits(shape.keys)) return dim * static_cast<std::size_t>(bits) / 8 + 2;
  if (shape.keys == Keys::fp8) return dim + 2;
  return dim * (shape.keys == Keys::bf16 ? 2 : 4);
}

bool launch(const Shape& shape, const Buffers& buffers, std::size_t tiles, int blocks, CUstream_st* stream) {
  if (shape.dim == 128) return launch_dim<128>(shape, buffers, tiles, blocks, stream);
  if (shape.dim == 256) return launch_dim<256>(shape, buffers, tiles, blocks, stream);
  return false;
}

void launch_read(const void* from, std::size_t bytes, int blocks, CUstream_st* stream, unsigned* out) {
  read_all<<<blocks, block_threads, 0, stream>>>(static_cast<const uint4*>(from), bytes / 16, out);
}

void fill(Keys keys, void* to, std::size_t bytes, unsigned seed, CUstream_st* stream) {
  // Exponents of floats stay near 1; e4m3 without the bit that a not-a-number needs.
  std::uint32_t keep = ~0u, set = 0;
  if (keys == Keys::f32 || keys == Keys::tf32) {
    keep = 0x80ffffffu;
    set = 0x3f000000u;
  } else if (keys == Keys::bf16) {
    keep = 0x80ff80ffu;
    set = 0x3f003f00u;
  } else if (keys == Keys::fp8) {
    keep = 0xbfbfbfbfu;
  }
  fill_words<<<1024, 256, 0, stream>>>(static_cast<std::uint32_t*>(to), bytes / 4, seed, keep, set);
}

}  // namespace tqkv::cuda::logits
