// Keys and values of one attention layer in the ranges of cache/ranges.h, as the CPU has them (cpu/layer_cache.h).
#pragma once
#include <optional>
#include <vector>

#include "cache/ranges.h"
#include "cache/session/layout.h"
#include "runtime/mlx/kernels/kernels.h"

namespace tqkv::mlx {

/// Tokens from..to-1 of `arrays`, of which the first one is token `position`.
struct Run {
  const Payload* arrays;
  int from, to, position;
};

/// Tokens begin..end-1 of one range, in pages of 256 that begin at multiples of 256. The newest page is the tail; those
/// before it lie in segments. A token goes into the tail alone, because MLX copies an array that it updates as long as
/// a step that is under way reads it. Once the tail is full and another token comes, it moves into the last segment at
/// once. Copies share the arrays until one of them changes.
class RangeStore {
 public:
  /// A segment holds `segment` tokens and the last one grows by `growth`, both in whole pages.
  RangeStore(const SideFormat& format, int kv_heads, int dim, int segment, int growth);
  const Codec& codec() const { return codec_; }
  int begin() const { return begin_; }
  int end() const { return end_; }
  /// The first token where the store is empty.
  void start_at(int token);
  void append(const Payload& payload);
  void truncate(int end);
  /// Lets go the pages that end at or before `token`.
  void drop_before(int token);
  /// Where tokens first..last-1 lie, which it holds. Valid until the store changes.
  std::vector<Run> runs(int first, int last) const;
  std::uint64_t bytes() const;
  void add_arrays(std::vector<mx::array>& all) const;

  /// What going back to this point needs while nothing but tokens is added.
  struct Mark {
    int begin, end;
    Payload tail;
  };
  Mark mark() const { return {begin_, end_, tail_}; }
  void go_back(const Mark& mark);

 private:
  int in_segments() const { return end_ == base_ ? 0 : (end_ - base_ - 1) / cache::page_tokens * cache::page_tokens; }
  void write_tail(const Payload& payload, int at);
  void move_to_segments(const Payload& payload, int at);
  void cut_segments(int tokens);

  Codec codec_;
  int segment_, growth_;
  int base_ = 0, begin_ = 0, end_ = 0;  // base: where the page of `begin` begins
  std::vector<Payload> segments_;       // computed
  Payload tail_;                        // a page; without arrays where the store is empty
};

/// Keys or values.
class CacheSide {
 public:
  /// `encode`: the kernel for it, or null for MLX's operations.
  CacheSide(const KvFormat& format, const SideFormat& side, int layer, int kv_heads, int dim, bool keys,
            RunKernel encode = {});
  const SideFormat& format() const { return main_.codec().format(); }
  /// x [tokens, kv heads, dim] from token `position` on.
  void append(const mx::array& x, int position);
  /// Lets go what queries from `position` on do not need.
  void drop_for(int position);
  /// Tokens first..last-1 as `range` serves them, in the channels of the head, run by run: [kv heads, tokens, dim].
  std::vector<mx::array> decoded(cache::Range range, int first, int last) const;
  std::uint64_t bytes() const;
  void add_arrays(std::vector<mx::array>& all) const;

  /// The store that serves `range`, in the basis of the side where `rotated`.
  struct Served {
    const RangeStore& store;
    bool rotated;
  };
  Served served(cache::Range range) const;
  /// x [kv heads, n, dim], into the basis of the side and back.
  mx::array to_basis(const mx::array& x) const;
  mx::array from_basis(const mx::array& y) const;
  /// Tokens from here on have the mean of the first ones taken off, but in the sink; 0: none has.
  int mean_tokens() const { return mean_tokens_; }

  RangeStore& store_of(cache::SessionPart part);
  const RangeStore& store_of(cache::SessionPart part) const;
  std::optional<mx::array> key_sum;  ///< [kv heads, dim], of keys where the format has a mean

  /// What going back needs besides cutting off.
  struct Snapshot {
    std::optional<RangeStore> window;
    std::optional<mx::array> key_sum;
    std::uint64_t bytes() const;
    void add_arrays(std::vector<mx::array>& all) const;
  };
  Snapshot snapshot() const { return {window_, key_sum}; }
  void restore(const Snapshot& snapshot, int tokens);

  /// What going back needs while nothing but tokens is added.
  struct Mark {
    RangeStore::Mark main;
    std::optional<RangeStore::Mark> sink;
    Snapshot rest;
  };
  Mark mark() const;
  void go_back(const Mark& mark);

 private:
  mx::array with_mean(const mx::array& x, int first) const;
  void sum_keys(const mx::array& x, int position);

  KvFormat format_;
  RunKernel encode_;
  int mean_tokens_ = 0;
  std::optional<mx::array> signs_;  // [kv heads, 1, dim], of a rotated side
  RangeStore main_;
  std::optional<RangeStore> sink_, window_;
};

struct AttentionCache {
  int layer = 0;  // in the model
  CacheSide keys, values;
  RunKernel attend;  // of its decoded tokens; null: MLX's operations
};

}  // namespace tqkv::mlx
