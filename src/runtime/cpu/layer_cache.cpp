#include "runtime/cpu/layer_cache.h"

#include <algorithm>

namespace tqkv::cpu {
namespace {

const codec::Basis identity;

}  // namespace

CacheSide::CacheSide(const codec::SideCodec& codec, int kv_heads, const KvFormat& format, int layer, bool keys)
    : main(codec, kv_heads, codec.format.kind == SideFormat::Kind::split ? cache::page_tokens : 0), format_(format) {
  const int dim = codec.dim;
  for (int head = 0; head < kv_heads; ++head) {
    if (split())
      first_basis.push_back(codec::Basis::rotation(format.seed, layer, head, dim));
    else
      main_basis.push_back(codec::Basis::of(codec.format, format.seed, layer, head, dim));
  }
  if (split()) squares.assign(static_cast<std::size_t>(kv_heads), std::vector<double>(static_cast<std::size_t>(dim)));
  for (const cache::StoredRange& range : cache::stored_ranges(format, codec.format, 0))
    if (range.range != cache::Range::main) apart(range.range).emplace(codec::side_codec(range.vectors, dim), kv_heads);
  if (coded() && keys && format.mean > 0) {
    mean_tokens_ = format.mean;
    key_sum.assign(static_cast<std::size_t>(kv_heads) * static_cast<std::size_t>(dim), 0.0f);
  }
}

std::optional<SidePages>& CacheSide::apart(cache::Range range) {
  return range == cache::Range::first ? first : range == cache::Range::sink ? sink : window;
}

std::span<const float> CacheSide::mean(int head) const {
  const auto dim = static_cast<std::size_t>(codec().dim);
  return std::span(key_sum).subspan(static_cast<std::size_t>(head) * dim, dim);
}

const SidePages& CacheSide::pages_of(cache::Range range) const {
  switch (range) {
    case cache::Range::first:
      return *first;
    case cache::Range::sink:
      return *sink;
    case cache::Range::window:
      return *window;
    case cache::Range::main:
      break;
  }
  return main;
}

void CacheSide::reserve(int tokens) {
  for (const cache::StoredRange& range : cache::stored_ranges(format_, format(), tokens))
    (range.range == cache::Range::main ? main : *apart(range.range)).reserve(range.end);
}

void CacheSide::truncate(int tokens) {
  main.truncate(tokens);
  if (first) first->truncate(tokens);
  if (sink) sink->truncate(tokens);
  if (window) window->truncate(tokens);
}

void CacheSide::drop_for(int position) {
  if (window) window->drop_before(position - format_.window);
}

std::uint64_t CacheSide::used_bytes(int tokens) const {
  std::uint64_t sum = key_sum.size() * sizeof(float);
  for (const cache::StoredRange& range : cache::stored_ranges(format_, format(), tokens)) {
    sum += pages_of(range.range).bytes_per_token() * static_cast<std::uint64_t>(range.tokens());
  }
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

SourceSide source_of(const CacheSide& side, cache::Range range, int head) {
  const auto at = static_cast<std::size_t>(head);
  if (range == cache::Range::sink && side.sink) return {&*side.sink, &identity};
  if (range == cache::Range::window && side.window) return {&*side.window, &identity};
  if (range == cache::Range::first && side.first) return {&*side.first, &side.first_basis[at]};
  return {&side.main, &side.main_basis[at]};
}

}  // namespace tqkv::cpu
