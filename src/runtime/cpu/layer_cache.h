// LayerCacheStore: keys and values of one attention layer, in the ranges of cache/ranges.h. Where the format has a
// mean, keys behind the tokens that it is of are stored minus it, in every range but the sink. Every pair of a query
// and a key is served by one range alone, which depends on their absolute positions and nothing else.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "cache/ranges.h"
#include "codec/basis.h"
#include "runtime/cpu/kv_pages.h"
#include "tqkv/engine.h"

namespace tqkv::cpu {

/// Keys or values.
class CacheSide {
 public:
  CacheSide(const codec::SideCodec& codec, int kv_heads, const KvFormat& format, int layer, bool keys);

  const codec::SideCodec& codec() const { return main.codec(); }
  const SideFormat& format() const { return main.codec().format; }
  bool coded() const { return format().kind != SideFormat::Kind::plain; }
  bool split() const { return format().kind == SideFormat::Kind::split; }
  bool chosen() const { return !main_basis.empty(); }  ///< false for a split side that waits for its channels
  /// Tokens from this one on are stored minus the mean of those before; 0 where none are.
  int mean_tokens() const { return mean_tokens_; }
  /// [dim], for tokens from mean_tokens() on.
  std::span<const float> mean(int head) const;
  void reserve(int tokens);
  void truncate(int tokens);
  /// Lets go what queries from `position` on do not need.
  void drop_for(int position);
  std::uint64_t used_bytes(int tokens) const;
  std::uint64_t allocated_bytes() const;
  std::uint64_t shared_bytes() const;
  /// Takes what another session has of this side up to token `tokens`, but what a snapshot has.
  void adopt(const CacheSide& from, int tokens);

  SidePages main;
  std::optional<SidePages> first;                     // split: tokens 0..255
  std::optional<SidePages> sink;                      // tokens 0..sink-1
  std::optional<SidePages> window;                    // the newest ones
  std::vector<codec::Basis> main_basis, first_basis;  // [kv heads]; of main and of first
  std::vector<std::vector<double>> squares;           // split: [kv heads][dim], sums over tokens 0..255 so far
  /// Keys, where the format has a mean: [kv heads, dim], their sum over tokens 0..mean_tokens()-1 so far; their mean
  /// once it has all of them.
  std::vector<float> key_sum;

 private:
  /// Of a range that the side has apart from main.
  std::optional<SidePages>& apart(cache::Range range);
  const SidePages& pages_of(cache::Range range) const;

  KvFormat format_;
  int mean_tokens_ = 0;
};

/// What going back needs besides cutting off pages.
struct SideSnapshot {
  std::optional<SidePages> window;
  std::vector<codec::Basis> main_basis;
  std::vector<std::vector<double>> squares;
  std::vector<float> key_sum;
  std::uint64_t bytes() const { return (window ? window->allocated_bytes() : 0) + key_sum.size() * sizeof(float); }
};
SideSnapshot snapshot_of(const CacheSide& side);
void restore(CacheSide& side, const SideSnapshot& snapshot, int position);

struct LayerCacheStore {
  LayerCacheStore(int index, CacheSide k, CacheSide v) : layer(index), keys(std::move(k)), values(std::move(v)) {}
  int layer;
  CacheSide keys, values;
};

struct SourceSide {
  const SidePages* pages;
  const codec::Basis* basis;
};
/// Where a side has the vectors of a head that `range` serves.
SourceSide source_of(const CacheSide& side, cache::Range range, int head);

}  // namespace tqkv::cpu
