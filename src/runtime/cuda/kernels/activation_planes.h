// Activations as two planes of signed bytes for products with 4-bit weights: x = step (256 high + low), a step for each
// 64 channels. The error is half a step, 1/65,278 of the group's largest channel.
//
// Channels lie in chunks of 32, which is what a lane loads of a row of weights at a time: 4 words of 8 codes. For each
// of these words there are four words of bytes: high and low of the even channels, high and low of the odd ones, as the
// codes come out of a word by a mask.
#pragma once
#include <cstdint>

#include "runtime/cuda/kernels/query_planes.h"

namespace tqkv::cuda {

inline constexpr int weight_group = 64;  ///< channels that share scale and bias
inline constexpr int chunk_channels = 32, chunk_words = 16;
/// From one chunk to the next, in words: with 4 between them, lanes that read the same word of neighbouring chunks use
/// different banks.
inline constexpr int chunk_stride = chunk_words + 4;

/// Where the bytes of a channel lie: the words of the high and of the low plane, and the byte in both.
struct PlanePlace {
  int high = 0, low = 0, byte = 0;
};
TQKV_HD PlanePlace plane_place(int channel) {
  const int chunk = channel / chunk_channels, word = channel % chunk_channels / 8, in_word = channel % 8;
  const int first = chunk * chunk_stride + word * 4 + in_word % 2 * 2;
  return {first, first + 1, in_word / 2};
}

/// Products of a word of 8 codes with the four words of its channels.
TQKV_HD void multiply_word(std::uint32_t codes, const std::uint32_t* planes, std::int32_t& high, std::int32_t& low) {
  const std::uint32_t even = codes & 0x0f0f0f0fu, odd = codes >> 4 & 0x0f0f0f0fu;
#ifdef __CUDA_ARCH__
  high = __dp4a(static_cast<int>(even), static_cast<int>(planes[0]), high);
  low = __dp4a(static_cast<int>(even), static_cast<int>(planes[1]), low);
  high = __dp4a(static_cast<int>(odd), static_cast<int>(planes[2]), high);
  low = __dp4a(static_cast<int>(odd), static_cast<int>(planes[3]), low);
#else
  for (int byte = 0; byte < 4; ++byte) {
    const auto of = [&](std::uint32_t word) { return static_cast<std::int8_t>(word >> (8 * byte) & 255u); };
    const auto e = static_cast<std::int32_t>(even >> (8 * byte) & 255u),
               o = static_cast<std::int32_t>(odd >> (8 * byte) & 255u);
    high += e * of(planes[0]) + o * of(planes[2]);
    low += e * of(planes[1]) + o * of(planes[3]);
  }
#endif
}

}  // namespace tqkv::cuda
