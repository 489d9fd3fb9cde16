// Keys and values of one attention layer in the ranges of cache/ranges.h, as the CPU has them (cpu/layer_cache.h).
// Arrays never change: what is appended makes new ones, and copies share the old.
#pragma once
#include <optional>
#include <vector>

#include "cache/ranges.h"
#include "cache/session/layout.h"
#include "runtime/mlx/codec.h"

namespace tqkv::mlx {

/// Tokens begin..end-1 of one range. Full blocks stay as they are; a decoded token copies the last one alone.
class RangeStore {
 public:
  RangeStore(const SideFormat& format, int kv_heads, int dim) : codec_(format, kv_heads, dim) {}
  const Codec& codec() const { return codec_; }
  int begin() const { return begin_; }
  int end() const { return end_; }
  /// The first token where the store is empty.
  void start_at(int token);
  void append(const Payload& payload);
  void truncate(int end);
  /// Lets go the pages that end at or before `token`.
  void drop_before(int token);
  /// Tokens first..last-1, which it holds, block by block.
  std::vector<Payload> stored(int first, int last) const;
  std::uint64_t bytes() const;
  void add_arrays(std::vector<mx::array>& all) const;

 private:
  Codec codec_;
  int begin_ = 0, end_ = 0;
  std::vector<Payload> blocks_;
};

/// Keys or values.
class CacheSide {
 public:
  CacheSide(const KvFormat& format, const SideFormat& side, int layer, int kv_heads, int dim, bool keys);
  const SideFormat& format() const { return main_.codec().format(); }
  /// x [tokens, kv heads, dim] from token `position` on.
  void append(const mx::array& x, int position);
  /// Lets go what queries from `position` on do not need.
  void drop_for(int position);
  /// Tokens first..last-1 as `range` serves them, in the channels of the head, block by block: [kv heads, tokens, dim].
  std::vector<mx::array> decoded(cache::Range range, int first, int last) const;
  void truncate(int tokens);
  std::uint64_t bytes() const;
  void add_arrays(std::vector<mx::array>& all) const;

  RangeStore& store_of(cache::SessionPart part);
  const RangeStore& store_of(cache::SessionPart part) const;
  std::optional<mx::array> key_sum;  ///< [kv heads, dim], of keys where the format has a mean

  /// What going back needs besides cutting off.
  struct Snapshot {
    std::optional<RangeStore> window;
    std::optional<mx::array> key_sum;
    std::uint64_t bytes() const;
  };
  Snapshot snapshot() const { return {window_, key_sum}; }
  void restore(const Snapshot& snapshot, int tokens);

 private:
  mx::array to_basis(const mx::array& x) const;
  mx::array from_basis(const mx::array& y) const;
  mx::array with_mean(const mx::array& x, int first) const;
  void sum_keys(const mx::array& x, int position);

  KvFormat format_;
  int mean_tokens_ = 0;
  std::optional<mx::array> signs_;  // [kv heads, 1, dim], of a rotated side
  RangeStore main_;
  std::optional<RangeStore> sink_, window_;
};

struct AttentionCache {
  int layer = 0;  // in the model
  CacheSide keys, values;
};

}  // namespace tqkv::mlx
