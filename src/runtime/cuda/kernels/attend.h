// Attention of one decoded token over packed pages: kernels behind plain functions. No type of CUDA but the stream's.
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/cuda/kernels/fragments.h"

struct CUstream_st;

namespace tqkv::cuda {

inline constexpr int page_tokens = 256, page_tiles = page_tokens / tile_tokens;
inline constexpr int group_queries = 8;  ///< of a KV head: the columns of a tensor product
inline constexpr int attend_warps = 8;   ///< of a block
inline constexpr int most_spans = 96;    ///< of a KV head

/// A page of one layer and KV head: tiles of keys, tiles of values, then an f16 scalar for each key and each value.
struct PageLayout {
  int key_tile = 0, value_tile = 0;  ///< words
  TQKV_HD int values() const { return page_tiles * key_tile; }
  TQKV_HD int key_scalars() const { return values() + page_tiles * value_tile; }
  TQKV_HD int value_scalars() const { return key_scalars() + page_tokens / 2; }
  TQKV_HD int words() const { return value_scalars() + page_tokens / 2; }
};
TQKV_HD PageLayout page_layout(int key_bits, int value_bits, int dim) {
  return {tile_words(key_bits, dim), tile_words(value_bits, dim)};
}

/// What belongs to a query besides its planes. `step` takes a sum of products to log2 of a weight: it holds log2(e) /
/// sqrt(dim), the step of the query, that of the levels of keys, and 1 / sqrt(dim) of their scalars.
struct AttendQuery {
  float step;
  std::int32_t high, low;  ///< PlaneSums
};

/// Everything lies on the card.
struct AttendWork {
  const std::uint32_t* const* pages = nullptr;  ///< [pages][KV heads]
  const std::uint32_t* planes = nullptr;        ///< [KV heads][2][dim / 16][32] words of the queries (query_planes.h)
  const AttendQuery* queries = nullptr;         ///< [KV heads][8]
  int kv_heads = 0;
  int first = 0, end = 0;  ///< tokens that are seen
  int spans = 0;           ///< of a KV head, each a block; at most most_spans
  LevelBytes key_levels, value_levels;
  float* partials = nullptr;  ///< [KV heads][spans][partial_floats(dim)]
  float* out = nullptr;       ///< [KV heads][8][dim]
};
TQKV_HD constexpr int partial_floats(int dim) {
  return group_queries * dim + 2 * group_queries;
}

/// Codes of turboquant: 2 to 4 bits for keys and for values, as many for both; dim 256. Launches both kernels into the
/// stream. False where there are none like it.
bool attend(int bits, int dim, const AttendWork& work, CUstream_st* stream, bool combine = true);

}  // namespace tqkv::cuda
