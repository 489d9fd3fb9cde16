// Kernels of q·k by kind of keys, and what they read. No type of CUDA but the stream's.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/cuda/kernels/fragments.h"

struct CUstream_st;

namespace tqkv::cuda::logits {

enum class Keys { turboquant4, turboquant3, turboquant2, f32, tf32, bf16, fp8 };

/// dim 128 or 256; 1, 8 or 16 heads that share the keys.
struct Shape {
  Keys keys = Keys::f32;
  int dim = 256;
  int heads = 1;
};

/// Of packed keys 2 to 4; else 0.
int packed_bits(Keys keys);
/// Bytes of a key, its scalar included.
std::size_t key_bytes(const Shape& shape);

/// What belongs to a query besides its planes. `step` holds 1 / sqrt(dim) and the step of the levels too.
struct QueryFacts {
  float step;
  int high, low;  // PlaneSums
};

/// On the card. `keys`: tiles of words (fragments.h), or rows [keys, dim] of f32, bf16 or e4m3. `scalars`: f16 [keys],
/// of packed keys and fp8. `query`: words of planes [groups of 8 heads][2][dim / 16][32] with `facts` [groups of 8], or
/// [heads, dim] in f32, bf16 or, for fp8, f16. `out`: f32 [keys, heads].
struct Buffers {
  const void* keys = nullptr;
  const void* scalars = nullptr;
  const void* query = nullptr;
  const QueryFacts* facts = nullptr;
  LevelBytes levels;
  float* out = nullptr;
};

/// Launches into the stream, `tiles` of 16 keys. False where there is no such kernel.
bool launch(const Shape& shape, const Buffers& buffers, std::size_t tiles, int blocks, CUstream_st* stream);
/// Blocks a multiprocessor that are tried.
inline constexpr int grids[] = {1, 2, 3, 4, 6};
void launch_read(const void* from, std::size_t bytes, int blocks, CUstream_st* stream, unsigned* out);
/// Random bytes that are no infinities or not-a-numbers of `keys`.
void fill(Keys keys, void* to, std::size_t bytes, unsigned seed, CUstream_st* stream);

}  // namespace tqkv::cuda::logits
