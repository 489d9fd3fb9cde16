#include "runtime/cpu/layer_cache.h"

#include <algorithm>

namespace tqkv::cpu {
namespace {

const codec::Basis identity;

codec::SideCodec bf16_codec(int dim) {
  return codec::side_codec(SideFormat{}, dim);
}

codec::SideCodec first_codec(const SideFormat& split, int dim) {
  return codec::side_codec(cache::format_before_split(split), dim);
}

}  // namespace

CacheSide::CacheSide(const codec::SideCodec& codec, int kv_heads, const KvFormat& format, int layer, bool keys)
    : main(codec, kv_heads, codec.format.kind == SideFormat::Kind::split ? cache::page_tokens : 0),
      window_tokens_(format.window),
      sink_tokens_(format.sink) {
  const int dim = codec.dim;
  for (int head = 0; head < kv_heads; ++head) {
    if (split())
      first_basis.push_back(codec::Basis::rotation(format.seed, layer, head, dim));
    else
      main_basis.push_back(codec::Basis::of(codec.format, format.seed, layer, head, dim));
  }
  if (split()) {
    first.emplace(first_codec(codec.format, dim), kv_heads);
    squares.assign(static_cast<std::size_t>(kv_heads), std::vector<double>(static_cast<std::size_t>(dim)));
  }
  if (!coded()) return;
  if (keys && format.mean > 0) {
    mean_tokens_ = format.mean;
    key_sum.assign(static_cast<std::size_t>(kv_heads) * static_cast<std::size_t>(dim), 0.0f);
  }
  if (sink_tokens_ > 0) sink.emplace(bf16_codec(dim), kv_heads);
  if (window_tokens_ > 0) window.emplace(bf16_codec(dim), kv_heads);
}

std::span<const float> CacheSide::mean(int head) const {
  const auto dim = static_cast<std::size_t>(codec().dim);
  return std::span(key_sum).subspan(static_cast<std::size_t>(head) * dim, dim);
}

void CacheSide::reserve(int tokens) {
  main.reserve(tokens);
  if (first) first->reserve(std::min(tokens, cache::page_tokens));
  if (sink) sink->reserve(std::min(tokens, sink_tokens_));
  if (window) window->reserve(tokens);
}

void CacheSide::truncate(int tokens) {
  main.truncate(tokens);
  if (first) first->truncate(tokens);
  if (sink) sink->truncate(tokens);
  if (window) window->truncate(tokens);
}

void CacheSide::drop_for(int position) {
  if (window) window->drop_before(position - window_tokens_);
}

std::uint64_t CacheSide::used_bytes(int tokens) const {
  const auto bytes = [](const SidePages& pages, int count) {
    return pages.bytes_per_token() * static_cast<std::uint64_t>(std::max(count, 0));
  };
  std::uint64_t sum = key_sum.size() * sizeof(float) + bytes(main, first ? tokens - cache::page_tokens : tokens);
  if (first) sum += bytes(*first, std::min(tokens, cache::page_tokens));
  if (sink) sum += bytes(*sink, std::min(tokens, sink_tokens_));
  if (window) sum += bytes(*window, std::min(tokens, window_tokens_));
  return sum;
}

std::uint64_t CacheSide::allocated_bytes() const {
  std::uint64_t sum = key_sum.size() * sizeof(float) + main.allocated_bytes();
  for (const auto* pages : {&first, &sink, &window}) {
    if (*pages) sum += (*pages)->allocated_bytes();
  }
  return sum;
}

std::uint64_t CacheSide::shared_bytes() const {
  std::uint64_t sum = main.shared_bytes();
  for (const auto* pages : {&first, &sink, &window}) {
    if (*pages) sum += (*pages)->shared_bytes();
  }
  return sum;
}

void CacheSide::adopt(const CacheSide& from, int tokens) {
  main.adopt(from.main, tokens);
  if (first) first->adopt(*from.first, tokens);
  if (sink) sink->adopt(*from.sink, tokens);
}

SideSnapshot snapshot_of(const CacheSide& side) {
  SideSnapshot snapshot;
  if (side.window) snapshot.window = side.window->clone();
  if (side.split()) snapshot.main_basis = side.main_basis;
  snapshot.squares = side.squares;
  snapshot.key_sum = side.key_sum;
  return snapshot;
}

void restore(CacheSide& side, const SideSnapshot& snapshot, int position) {
  if (side.window) side.window = snapshot.window->clone();
  if (side.split()) side.main_basis = snapshot.main_basis;
  side.squares = snapshot.squares;
  side.key_sum = snapshot.key_sum;
  side.truncate(position);
}

std::array<KeySpan, 4> key_spans(const LayerCacheStore& cache, const KvFormat& format, int oldest, int newest,
                                 int first, int end) {
  const int window = cache.keys.window || cache.values.window ? format.window : 0;
  const int sink = cache.keys.sink || cache.values.sink ? format.sink : 0;
  const int split = cache.keys.first || cache.values.first ? cache::page_tokens : 0;
  const int before_window = std::min(end, newest + 1 - window);
  return {KeySpan{Range::sink, first, std::min(end, sink)},
          {Range::first, std::max(first, sink), std::min(before_window, split)},
          {Range::main, std::max({first, sink, split}), before_window},
          {Range::window, std::max({first, sink, oldest + 1 - window}), window > 0 ? end : 0}};
}

SourceSide source_of(const CacheSide& side, Range range, int head) {
  const auto at = static_cast<std::size_t>(head);
  if (range == Range::sink && side.sink) return {&*side.sink, &identity};
  if (range == Range::window && side.window) return {&*side.window, &identity};
  if (range == Range::first && side.first) return {&*side.first, &side.first_basis[at]};
  return {&side.main, &side.main_basis[at]};
}

}  // namespace tqkv::cpu
