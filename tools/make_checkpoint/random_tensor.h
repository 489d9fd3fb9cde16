// Random tensors: what a tensor holds follows from the seed, its name and the config alone, byte by byte from a
// counter, so that any part of it can be made without the rest, the same on every machine.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/weights.h"
#include "tqkv/model_config.h"

namespace tqkv::tools {

/// A tensor of the checkpoint: random bytes as they are (packed indices), or one element looked up for each random
/// byte.
///
/// Byte i of its stream is byte i % 8 of h(key + (i/8 + 1) * 0x9e3779b97f4a7c15), the lowest first, where h is the
/// finalizer of SplitMix64. Scales and biases of a module have one key: a bias belongs to its scale.
struct RandomTensor {
  ExpectedTensor expected;
  std::uint64_t key = 0;
  std::size_t width = 1;                 // bytes of an element; 1: the random bytes are the data
  std::array<std::uint32_t, 256> table;  // bits of the element that a random byte stands for; when width is 2 or 4

  /// Writes the bytes of the tensor that start at `offset`, which is a multiple of 32.
  void fill(std::uint64_t offset, std::span<std::byte> bytes) const;
};

/// Every tensor that a checkpoint of `config` holds, in its order, with these values:
/// - a matrix [out, in] has the deviation 1 / sqrt(in), so that outputs are as large as inputs. Those that write to the
///   residual stream (o_proj, out_proj, down_proj) have 1 / sqrt(2 layers) of it: all layers together add about as much
///   to the stream as the embedding put there, tokens stay apart from each other, and no expert is in favour with all.
/// - the embedding has deviation 1, or 1 / sqrt(in) where it is the head too (the stream is then smaller by as much);
/// - quantized: indices uniform, scales within 5% of each other, positive or negative, bias -scale * (levels - 1) / 2;
/// - norms 0.9 to 1.1, taps of the convolution of deviation 1/sqrt(taps), A_log = log of 1 to 16, dt_bias the inverse
///   softplus of 0.001 to 0.1 (uniform in the logarithm).
std::vector<RandomTensor> random_tensors(const ModelConfig& config, std::uint64_t seed);

}  // namespace tqkv::tools
