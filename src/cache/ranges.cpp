#include "cache/ranges.h"

#include <fmt/format.h>

#include <algorithm>

#include "tqkv/error.h"

namespace tqkv::cache {
namespace {

bool coded(const SideFormat& side) {
  return side.kind != SideFormat::Kind::plain;
}

bool split(const SideFormat& side) {
  return side.kind == SideFormat::Kind::split;
}

}  // namespace

int pages_for(int tokens) {
  if (tokens < 0)
    throw Error(ErrorKind::usage, fmt::format("cache size: the number of tokens is {}, it cannot be negative", tokens));
  return tokens / page_tokens + (tokens % page_tokens != 0 ? 1 : 0);
}

SideFormat format_before_split(const SideFormat& split) {
  SideFormat format;
  format.kind = SideFormat::Kind::turboquant;
  format.bits = split.bits + 1;
  format.scalar = split.scalar;
  return format;
}

std::vector<StoredRange> stored_ranges(const KvFormat& format, const SideFormat& side, int tokens) {
  const int early = split(side) ? std::min(tokens, page_tokens) : 0;
  std::vector<StoredRange> ranges{{Range::main, side, early, tokens}};
  if (split(side)) ranges.push_back({Range::first, format_before_split(side), 0, early});
  if (!coded(side)) return ranges;
  if (format.sink > 0) ranges.push_back({Range::sink, SideFormat{}, 0, std::min(tokens, format.sink)});
  if (format.window > 0)
    ranges.push_back({Range::window, SideFormat{}, tokens - std::min(tokens, format.window), tokens});
  return ranges;
}

std::array<KeySpan, 4> key_spans(const KvFormat& format, const SideFormat& keys, const SideFormat& values, int oldest,
                                 int newest, int first, int end) {
  const bool any_coded = coded(keys) || coded(values);
  const int window = any_coded ? format.window : 0, sink = any_coded ? format.sink : 0;
  const int before_split = split(keys) || split(values) ? page_tokens : 0;
  const int before_window = std::min(end, newest + 1 - window);
  return {KeySpan{Range::sink, first, std::min(end, sink)},
          {Range::first, std::max(first, sink), std::min(before_window, before_split)},
          {Range::main, std::max({first, sink, before_split}), before_window},
          {Range::window, std::max({first, sink, oldest + 1 - window}), window > 0 ? end : 0}};
}

}  // namespace tqkv::cache
