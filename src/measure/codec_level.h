// What a codec does to vectors, without a model: distortion, bias and the variance of scores, beside what the theory
// says. docs/measuring.md defines every figure.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tqkv/kv_format.h"

namespace tqkv::measure {

/// Vectors [count, dim] that are encoded as they are, with the basis of one KV head of one layer.
struct CodecInput {
  std::string name;  // "gaussian", "adversarial", "captured K", "captured V"
  int layer = 0, head = 0;
  std::vector<float> vectors;
};

struct CodecFigures {
  std::string format;  // as a side describes itself
  std::string side;    // "K", "V", or "K and V" where both are stored alike
  std::string input;
  int count = 0;
  double bits_per_value = 0;
  double distortion = 0, distortion_se = 0;          // mean ‖x - x̂‖² / ‖x‖², and its standard error
  double bias = 0, bias_se = 0;                      // mean ⟨x, x̂⟩ / ‖x‖² - 1
  double score_variance = 0, score_variance_se = 0;  // d mean (⟨q, x̂⟩ - ⟨q, x⟩)² / ‖x‖², q random of norm 1
  std::optional<double> lower, upper;                // of the score variance of vectors in general position (theory)
  std::optional<double> expected;                    // its exact value there, where it is known
};

/// Vectors in general position, and vectors made to defeat a codec: single channels, constants, patterns of signs, rows
/// of the Hadamard matrix, a few huge channels, constant offsets. The same on every machine.
CodecInput gaussian_input(int dim, int count);
CodecInput adversarial_input(int dim);
/// Both sides of `format`, which must fit `dim`, on every input.
std::vector<CodecFigures> measure_codec(const KvFormat& format, int dim, std::span<const CodecInput> inputs);

}  // namespace tqkv::measure
