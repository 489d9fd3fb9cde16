// LayerAttention: the cache of one attention layer, fed with keys, values and queries from outside. Codecs, ranges and
// kernels are those of a session.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tqkv/engine.h"
#include "tqkv/kv_format.h"

namespace tqkv::cpu {

struct LayerShape {
  int heads = 1, kv_heads = 1, head_dim = 0;
  float scale = 1;  ///< of scores: q·k scale
};

class LayerAttention {
 public:
  /// Of layer `layer`, which is attention layer `index` of `count`. Throws Error(format) for a format that cannot store
  /// such vectors, Error(usage) for an instruction set that is not there.
  LayerAttention(const LayerShape& shape, const KvFormat& format, int layer, int index, int count,
                 const DeviceOptions& options);
  ~LayerAttention();
  LayerAttention(const LayerAttention&) = delete;
  LayerAttention& operator=(const LayerAttention&) = delete;

  /// Keys and values [tokens, kv heads, head_dim] of the next tokens.
  void feed(std::span<const float> keys, std::span<const float> values);
  int tokens() const;
  /// A query [heads, head_dim] at the position of the newest token, over keys from `oldest_key` on; to out [heads,
  /// head_dim].
  void attend(std::span<const float> query, int oldest_key, std::span<float> out);
  /// What a query at the newest token sees of the keys and the values of a KV head: [tokens, head_dim], in the channels
  /// that were fed, the mean included. Valid until the next call.
  struct Seen {
    std::span<const float> keys, values;
  };
  Seen seen(int kv_head);
  const SideFormat& keys() const;
  const SideFormat& values() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tqkv::cpu
