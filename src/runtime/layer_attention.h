// LayerAttention: the cache of one attention layer, fed with keys, values and queries from outside. Codecs, ranges and
// kernels are those of a session on the same device.
#pragma once
#include <span>

#include "tqkv/kv_format.h"

namespace tqkv {

struct LayerShape {
  int heads = 1, kv_heads = 1, head_dim = 0;
  float scale = 1;  ///< of scores: q·k scale
};

class LayerAttention {
 public:
  virtual ~LayerAttention() = default;
  /// Keys and values [tokens, kv heads, head_dim] of the next tokens.
  virtual void feed(std::span<const float> keys, std::span<const float> values) = 0;
  virtual int tokens() const = 0;
  /// A query [heads, head_dim] at the position of the newest token, over keys from `oldest_key` on; to out [heads,
  /// head_dim].
  virtual void attend(std::span<const float> query, int oldest_key, std::span<float> out) = 0;
  /// What a query at the newest token sees of the keys and the values of a KV head: [tokens, head_dim], in the channels
  /// that were fed, the mean included. Valid until the next call.
  struct Seen {
    std::span<const float> keys, values;
  };
  virtual Seen seen(int kv_head) = 0;
  virtual const SideFormat& keys() const = 0;
  virtual const SideFormat& values() const = 0;
};

}  // namespace tqkv
