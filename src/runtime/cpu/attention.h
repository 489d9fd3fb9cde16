// Attention: the keys and values of a chunk into the pages of a layer, then the chunk's queries over everything that
// the cache holds.
#pragma once
#include "base/thread_pool.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/layer_cache.h"
#include "runtime/cpu/workspace.h"

namespace tqkv::cpu {

class Attention {
 public:
  /// Heads and head_dim are those of `config`; `work` has room for the chunks.
  Attention(const ModelConfig& config, const KvFormat& format, Precision precision, const Kernels& kernels,
            ThreadPool& pool, Workspace& work)
      : config_(config), format_(format), precision_(precision), kernels_(kernels), pool_(pool), work_(work) {}
  /// The chunk that the calls below are about: `tokens` tokens from `position` on, their queries [tokens, heads,
  /// head_dim] scaled and with RoPE.
  void next(int position, int tokens, float* query);
  /// Keys or values of the chunk, rows [tokens, kv heads, head_dim], which are overwritten. The side has room for them.
  void encode(CacheSide& side, float* rows, int layer);
  /// The queries become the output of attention. They see keys from `oldest_key` up to their own position.
  void attend(const LayerCacheStore& cache, int oldest_key = 0);

 private:
  /// Keys from..to-1 of one range, for `count` tokens from `first` of the chunk on.
  struct KeyRange {
    const LayerCacheStore* cache;
    cache::Range range;
    int head, first, count, from, to;
  };
  void sum_squares(CacheSide& side, const float* rows, int layer);
  void sum_keys(CacheSide& side, const float* rows);
  void attend_block(const LayerCacheStore& cache, int head, int block, int span_first, int span_last, float* maximum,
                    float* sum, float* output, int worker);
  void attend_range(const KeyRange& keys, float* maximum, float* sum, float* output, int worker);
  void centre_scores(const KeyRange& keys, float* maximum, WorkerBuffers& buffers);
  void hide_older(const KeyRange& keys, int key, WorkerBuffers& buffers);
  void load_queries(const KeyRange& keys, float* out) const;
  void finish_block(int head, int block, const float* sum, float* output);

  const ModelConfig& config_;
  const KvFormat& format_;
  Precision precision_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  Workspace& work_;
  int position_ = 0, tokens_ = 0;
  float* query_ = nullptr;
};

}  // namespace tqkv::cpu
