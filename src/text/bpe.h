// Byte-level byte-pair encoding: the bytes of one word to ids, by the rank of merges.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::text {

/// The characters of the GPT-2 byte alphabet in which vocabularies spell bytes: code point of every byte.
const std::array<std::uint32_t, 256>& byte_alphabet();
/// The bytes that `token` spells, or nothing when a character is not of the alphabet.
std::optional<std::string> bytes_of(std::string_view token);

class Bpe {
 public:
  void set_byte(std::uint8_t byte, int id) { byte_ids_[byte] = id; }
  void reserve(std::size_t merges);
  /// Merge of `left` and `right` into `merged`; merges are added in the order of their rank, a later one replaces an
  /// equal pair.
  void add(int left, int right, int merged);

  /// Buffers that encode() works in; one a caller.
  struct Scratch {
    struct Symbol {
      int id;
      std::int32_t previous, next;  // index, or -1
    };
    std::vector<Symbol> symbols;
    std::vector<std::uint64_t> heap;  // rank in the high half, index of the left symbol in the low half
  };
  /// Appends the ids of `word` (at most 2^31 - 1 bytes). O(n log n).
  void encode(std::string_view word, Scratch& scratch, std::vector<int>& ids) const;

 private:
  struct Slot {
    std::uint64_t pair = empty;
    std::uint32_t rank = 0;
    int merged = 0;
  };
  static constexpr std::uint64_t empty = ~std::uint64_t{0};
  static std::uint64_t key(int left, int right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t pair) const;
  const Slot* find(int left, int right) const;

  std::array<int, 256> byte_ids_{};
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  std::uint32_t ranks_ = 0;
};

}  // namespace tqkv::text
