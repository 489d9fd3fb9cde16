// LayerCacheStore: keys and values of one attention layer. Most tokens lie in the `main` pages, in the format of the
// layer; options keep some in others: the first ones (sink) and the newest ones (window) in bf16, and, before the
// channels of a split side are chosen, the first page in turboquant of one bit more. Where the format has a mean, keys
// behind the tokens that it is of are stored minus it, in every range but the sink. Every pair of a query and a key is
// served by one range alone, which depends on their absolute positions and nothing else.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

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
  int window_tokens_, sink_tokens_, mean_tokens_ = 0;
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

/// The ranges of keys that are served alike. A side takes its bytes from the pages of that name where it has such, else
/// from its main pages.
enum class Range { sink, first, main, window };

/// Keys from..to-1, which one range serves.
struct KeySpan {
  Range range;
  int from, to;
};
/// Keys first..end-1 for queries at positions oldest..newest, in the order of ranges; a span may be empty. The main
/// span ends before the window of the newest query, the window's begins with that of the oldest: each query leaves out
/// of both what the other one has for it.
std::array<KeySpan, 4> key_spans(const LayerCacheStore& cache, const KvFormat& format, int oldest, int newest,
                                 int first, int end);

struct SourceSide {
  const SidePages* pages;
  const codec::Basis* basis;
};
SourceSide source_of(const CacheSide& side, Range range, int head);

}  // namespace tqkv::cpu
