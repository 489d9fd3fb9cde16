// Attention over the cache: the keys and values of a chunk into the pages of a layer, then the chunk's queries over
// everything that the pages hold.
#pragma once
#include "base/thread_pool.h"
#include "model/rows.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/layer_cache.h"
#include "runtime/cpu/workspace.h"

namespace tqkv::cpu {

/// Tokens that one session adds, in one layer.
struct AttentionChunk {
  const ModelConfig& config;  // heads and head_dim
  const KvFormat& format;
  Precision precision;
  const Kernels& kernels;
  ThreadPool& pool;
  Workspace& work;    // has room for the chunk
  int position;       // of its first token
  Rows<float> query;  // [tokens, heads * head_dim], scaled and with RoPE

  int tokens() const { return query.rows; }
  int group() const { return config.num_attention_heads / config.num_key_value_heads; }  // query heads of a KV head
};

/// Keys or values of the chunk into the pages of their side, which has room for them: before any query looks, because a
/// query sees its own chunk as the cache holds it. x [tokens, kv heads * head_dim] is overwritten.
void encode(const AttentionChunk& chunk, CacheSide& side, Rows<float> x, int layer);
/// The queries become the output of attention. They see keys from `oldest_key` up to their own position.
void attend(const AttentionChunk& chunk, const LayerCacheStore& cache, int oldest_key = 0);

}  // namespace tqkv::cpu
