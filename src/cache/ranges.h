// Which pages hold which tokens. A side keeps most tokens in its own format (main). Options keep others apart: the
// first ones (sink) and the newest ones (window) in bf16 and, before the channels of a split side are chosen, the first
// page in turboquant of one bit more. Byte accounting, session files, stores and attention all go by these functions.
#pragma once
#include <array>
#include <vector>

#include "tqkv/kv_format.h"

namespace tqkv::cache {

inline constexpr int page_tokens = 256;  // mlx-lm's block
/// A device can keep main pages behind one another in segments, of which the last one grows step by step; the newest
/// page lies apart.
inline constexpr int segment_tokens = 16384, segment_growth = 2048;

/// Pages that `tokens` tokens take in one layer and side. Throws Error(usage) for a negative number.
int pages_for(int tokens);

enum class Range { main, first, sink, window };

/// What a range of one side stores.
struct StoredRange {
  Range range = Range::main;
  SideFormat vectors;
  int begin = 0, end = 0;  ///< tokens, absolute positions
  int tokens() const { return end - begin; }
  /// Of the tokens that it stores. Page p has the tokens from p * page_tokens on.
  int pages() const { return begin == end ? 0 : pages_for(end) - begin / page_tokens; }
};

/// The ranges of a side of `format` that has `tokens` tokens, also those that are still empty, in the order of Range.
std::vector<StoredRange> stored_ranges(const KvFormat& format, const SideFormat& side, int tokens);

/// How a split side stores tokens 0 to 255, before its channels are chosen: turboquant of one bit more.
SideFormat format_before_split(const SideFormat& split);

/// Keys from..to-1, which one range serves.
struct KeySpan {
  Range range;
  int from, to;
};
/// Keys first..end-1 for queries at positions oldest..newest of a layer with these sides; a span may be empty. Keys and
/// values are served by the same range: a side that has none of that name takes them from its main pages. The main span
/// ends before the window of the newest query, the window's begins with that of the oldest: each query leaves out of
/// both what the other one has for it.
std::array<KeySpan, 4> key_spans(const KvFormat& format, const SideFormat& keys, const SideFormat& values, int oldest,
                                 int newest, int first, int end);

}  // namespace tqkv::cache
