// Where codes lie on the card: in the order in which a warp's tensor instructions take them, so that loads are 512
// bytes a warp and nothing is shuffled. It is a bijection of the canonical bytes (docs/formats.md).
//
// A tile is 16 tokens of one KV head and one side: a matrix of 16 rows and `dim` columns, the A operand of
// mma.m16n8k16. For keys a row is a token and a column a channel; for values, whose product runs over tokens, each 16
// channels are a block of their own, with channels as rows and tokens as columns. In both, block b holds the channels
// 16b to 16b + 15.
//
// Of each block a lane has 8 codes. Lane l, with r = l / 4 and j = l % 4, has in rows r and r + 8 the columns 2j, 2j +
// 1, 2j + 8 and 2j + 9, which are its codes 0 to 3 of the row.
//
// A code is a sign and a magnitude: index i of 2^bits levels around zero is negative below the middle, and its
// magnitude counts from the middle outwards. Words of a lane, for B = dim / 16 blocks:
//
//   bits  words of magnitudes             words of signs         a lane's words at dim 256
//   2     B / 4, four blocks in each      B / 4, four blocks     8
//   3     B / 2, two blocks in each       B / 4, four blocks     12
//   4     B, signs inside                 none                   16
//
// Magnitude of code c: the low bits of nibble c for row r, of nibble 4 + c for row r + 8, shifted by block % 2 * 2 (3
// bits) or block % 4 (2 bits). Sign of code c with 4 bits: bit 8c + 7 for row r, 8c + 3 for row r + 8, the free bits of
// the nibbles; in a word of signs, that of block b lies (b % 4) bits lower.
#pragma once
#include <cstdint>

#include "runtime/cuda/kernels/portable.h"

namespace tqkv::cuda {

inline constexpr int tile_tokens = 16, block_channels = 16, warp_lanes = 32;

/// A code of a tile.
struct Code {
  int block = 0, row = 0, column = 0;
};
TQKV_HD Code key_code(int token, int channel) {
  return {channel / block_channels, token, channel % block_channels};
}
TQKV_HD Code value_code(int token, int channel) {
  return {channel / block_channels, channel % block_channels, token};
}

/// The lane that has a code, and which of its 8 codes of the block it is: 0 to 3 in row r, 4 to 7 in row r + 8.
struct LaneCode {
  int lane = 0, code = 0;
};
TQKV_HD LaneCode lane_code(int row, int column) {
  return {row % 8 * 4 + column % 8 / 2, row / 8 * 4 + column / 8 * 2 + column % 2};
}

/// Words of magnitudes and of signs that a lane has of a tile. `dim` is a multiple of 64.
TQKV_HD int magnitude_words(int bits, int dim) {
  return dim / block_channels / (bits == 4 ? 1 : bits == 3 ? 2 : 4);
}
TQKV_HD int sign_words(int bits, int dim) {
  return bits == 4 ? 0 : dim / block_channels / 4;
}
TQKV_HD int lane_words(int bits, int dim) {
  return magnitude_words(bits, dim) + sign_words(bits, dim);
}
TQKV_HD int tile_words(int bits, int dim) {
  return lane_words(bits, dim) * warp_lanes;
}

/// Where a lane's word `word` lies in the tile's words: lanes next to each other have four words each behind one
/// another, and two or one where fewer are left.
TQKV_HD int word_place(int lane, int word, int words) {
  const int whole = words / 4 * 4;
  if (word < whole) return (word / 4 * warp_lanes + lane) * 4 + word % 4;
  const int left = words - whole;
  return whole * warp_lanes + lane * left + (word - whole);
}

/// The bits of a code: its magnitude has `bits` - 1 of them from `shift` on in word `word`; its sign is bit `sign_bit`
/// of `sign_word`, set where the code is negative.
struct CodeBits {
  int word = 0, shift = 0, sign_word = 0, sign_bit = 0;
};
TQKV_HD CodeBits code_bits(int bits, int dim, int block, int code) {
  const int in_word = bits == 4 ? 1 : bits == 3 ? 2 : 4, high = code / 4;
  const int sign = 8 * (code % 4) + 7 - 4 * high;
  CodeBits place;
  place.word = block / in_word;
  place.shift = 4 * code + block % in_word * (bits - 1);
  place.sign_word = bits == 4 ? place.word : magnitude_words(bits, dim) + block / 4;
  place.sign_bit = bits == 4 ? sign : sign - block % 4;
  return place;
}

/// Index of one of 2^bits levels in ascending order, as magnitude and sign.
TQKV_HD std::uint32_t magnitude_of(int bits, std::uint32_t index) {
  const std::uint32_t middle = 1u << (bits - 1);
  return index < middle ? middle - 1u - index : index - middle;
}
TQKV_HD bool is_negative(int bits, std::uint32_t index) {
  return index < 1u << (bits - 1);
}
TQKV_HD std::uint32_t index_of(int bits, std::uint32_t magnitude, bool negative) {
  const std::uint32_t middle = 1u << (bits - 1);
  return negative ? middle - 1u - magnitude : middle + magnitude;
}

/// One code into the words of a tile, which begin as zeros, and out of them.
TQKV_HD void put_code(int bits, int dim, const Code& at, std::uint32_t index, std::uint32_t* words) {
  const LaneCode own = lane_code(at.row, at.column);
  const CodeBits place = code_bits(bits, dim, at.block, own.code);
  const int count = lane_words(bits, dim);
  words[word_place(own.lane, place.word, count)] |= magnitude_of(bits, index) << place.shift;
  if (is_negative(bits, index)) words[word_place(own.lane, place.sign_word, count)] |= 1u << place.sign_bit;
}
TQKV_HD std::uint32_t get_code(int bits, int dim, const Code& at, const std::uint32_t* words) {
  const LaneCode own = lane_code(at.row, at.column);
  const CodeBits place = code_bits(bits, dim, at.block, own.code);
  const int count = lane_words(bits, dim);
  const std::uint32_t magnitude =
      words[word_place(own.lane, place.word, count)] >> place.shift & ((1u << (bits - 1)) - 1u);
  return index_of(bits, magnitude, (words[word_place(own.lane, place.sign_word, count)] >> place.sign_bit & 1u) != 0);
}

/// The magnitudes of levels around zero as bytes: byte m is 128 + the level of magnitude m, rounded to a step, so that
/// a byte stands for the odd number of half steps 2 (byte - 128) + 1.
struct LevelBytes {
  std::uint32_t low = 0, high = 0;  ///< of magnitudes 0 to 3 and 4 to 7
  float step = 0;                   ///< level = (byte - 127.5) step
};
/// `levels`: the positive half of 2^bits levels in ascending order, 2^(bits - 1) of them, at most 8.
TQKV_HD LevelBytes level_bytes(const float* levels, int count) {
  LevelBytes bytes;
  bytes.step = levels[count - 1] / 127.5f;
  for (int m = 0; m < count; ++m) {
    const float steps = levels[m] / bytes.step - 0.5f;
    const auto byte = 128u + static_cast<std::uint32_t>(steps < 0.0f ? 0 : static_cast<int>(steps + 0.5f));
    if (m < 4)
      bytes.low |= byte << (8 * m);
    else
      bytes.high |= byte << (8 * (m - 4));
  }
  return bytes;
}

/// The 8 codes of one block and lane as bytes, `row` those of row r and `next` those of row r + 8.
struct BlockBytes {
  std::uint32_t row = 0, next = 0;
};
/// `magnitudes`: the nibbles of the block, nothing else in them; `signs`: bits 8c + 7 and 8c + 3, others do not matter.
TQKV_HD BlockBytes decode_block(const LevelBytes& levels, std::uint32_t magnitudes, std::uint32_t signs) {
  constexpr std::uint32_t spread_signs = 0xba98;  // every byte its own highest bit
  return {permute_bytes(levels.low, levels.high, magnitudes) ^ permute_bytes(signs, signs, spread_signs),
          permute_bytes(levels.low, levels.high, magnitudes >> 16) ^ permute_bytes(signs << 4, signs, spread_signs)};
}
/// Block `block` of a lane whose words these are.
template <int bits>
TQKV_HD BlockBytes decode_block(const LevelBytes& levels, const std::uint32_t* words, int dim, int block) {
  if (bits == 4) return decode_block(levels, words[block] & 0x77777777u, words[block]);
  const std::uint32_t signs = words[magnitude_words(bits, dim) + block / 4] << (block % 4);
  if (bits == 3) return decode_block(levels, words[block / 2] >> (2 * (block % 2)) & 0x33333333u, signs);
  return decode_block(levels, words[block / 4] >> (block % 4) & 0x11111111u, signs);
}

}  // namespace tqkv::cuda
