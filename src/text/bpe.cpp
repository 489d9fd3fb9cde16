#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <unordered_map>

#include "text/utf8.h"

namespace tqkv::text {
const std::array<std::uint32_t, 256>& byte_alphabet() {
  // Printable Latin-1 stands for itself, the other bytes take the code points from 256 on, in order.
  static const std::array<std::uint32_t, 256> alphabet = [] {
    std::array<std::uint32_t, 256> result{};
    std::uint32_t other = 256;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      result[byte] = printable ? byte : other++;
    }
    return result;
  }();
  return alphabet;
}

std::optional<std::string> bytes_of(std::string_view token) {
  static const std::array<std::int16_t, 324> byte_of = [] {
    std::array<std::int16_t, 324> result{};
    result.fill(-1);
    for (std::size_t byte = 0; byte < 256; ++byte) result[byte_alphabet()[byte]] = static_cast<std::int16_t>(byte);
    return result;
  }();
  std::string bytes;
  bytes.reserve(token.size());
  for (std::size_t at = 0; at < token.size();) {
    const Utf8Step step = next_character(token, at);
    if (step.kind != Utf8Step::Kind::character || step.code_point >= byte_of.size()) return std::nullopt;
    const std::int16_t byte = byte_of[step.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(static_cast<std::uint8_t>(byte)));
    at += step.length;
  }
  return bytes;
}

void Bpe::reserve(std::size_t merges) {
  slots_.assign(std::bit_ceil(std::max<std::size_t>(merges * 2, 16)), Slot{});
}

std::size_t Bpe::slot_of(std::uint64_t pair) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = static_cast<std::size_t>((pair * 0x9e3779b97f4a7c15u) >> 32) & mask;
  while (slots_[slot].pair != pair && slots_[slot].pair != empty) slot = (slot + 1) & mask;
  return slot;
}

const Bpe::Slot* Bpe::find(int left, int right) const {
  const Slot& slot = slots_[slot_of(key(left, right))];
  return slot.pair == empty ? nullptr : &slot;
}

void Bpe::add(int left, int right, int merged) {
  slots_[slot_of(key(left, right))] = {key(left, right), ranks_++, merged};
}

void Bpe::encode(std::string_view word, Scratch& scratch, std::vector<int>& ids) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<std::uint64_t>& heap = scratch.heap;
  symbols.clear();
  heap.clear();
  const auto count = static_cast<std::int32_t>(word.size());
  for (std::int32_t i = 0; i < count; ++i) {
    const int id = byte_ids_[static_cast<std::uint8_t>(word[static_cast<std::size_t>(i)])];
    symbols.push_back({id, i - 1, i + 1 < count ? i + 1 : -1});
  }
  const auto symbol = [&](std::int32_t at) -> Scratch::Symbol& { return symbols[static_cast<std::size_t>(at)]; };
  const auto add_candidate = [&](std::int32_t at) {
    const Slot* merge = find(symbol(at).id, symbol(symbol(at).next).id);
    if (merge) heap.push_back((static_cast<std::uint64_t>(merge->rank) << 32) | static_cast<std::uint32_t>(at));
    return merge != nullptr;
  };
  // Lowest rank first, then leftmost.
  const std::greater<> later;
  for (std::int32_t i = 0; i + 1 < count; ++i) add_candidate(i);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const std::uint64_t best = heap.back();
    heap.pop_back();
    const auto at = static_cast<std::int32_t>(best & 0xffffffffu);
    Scratch::Symbol& left = symbol(at);
    if (left.id < 0 || left.next < 0) continue;
    Scratch::Symbol& right = symbol(left.next);
    // The pair may have changed since it was noted.
    const Slot* merge = find(left.id, right.id);
    if (!merge || merge->rank != (best >> 32)) continue;
    left.id = merge->merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) {
      symbol(left.next).previous = at;
      if (add_candidate(at)) std::push_heap(heap.begin(), heap.end(), later);
    }
    if (left.previous >= 0 && add_candidate(left.previous)) std::push_heap(heap.begin(), heap.end(), later);
  }
  if (count == 0) return;
  for (std::int32_t at = 0; at >= 0; at = symbol(at).next) ids.push_back(symbol(at).id);
}

}  // namespace tqkv::text
