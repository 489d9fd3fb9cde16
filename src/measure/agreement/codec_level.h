// What a codec does to vectors, without a model: distortion, bias and the variance of scores, beside what the theory
// says. docs/measuring.md defines every figure.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "measure/agreement/evaluate.h"
#include "tqkv/kv_format.h"
#include "tqkv/model_config.h"

namespace tqkv::measure {

/// Vectors [count, dim] of one KV head of one layer, which are encoded with the basis of that head.
struct CodecVectors {
  int layer = 0, head = 0;
  std::vector<float> values;
};
struct CodecInput {
  std::string name;  // as in CodecFigures
  std::vector<CodecVectors> parts;
};

inline constexpr const char* captured_keys = "captured K";
inline constexpr const char* captured_values = "captured V";

/// Vectors in general position, and vectors made to defeat a codec: single channels, constants, patterns of signs, rows
/// of the Hadamard matrix, a few huge channels, constant offsets. The same on every machine.
CodecInput gaussian_input(int dim, int count);
CodecInput adversarial_input(int dim);
/// Both sides of `format`, `sides`, which must fit `dim`, on every input; captured keys meet K alone, captured values
/// V.
std::vector<CodecFigures> measure_codec(const KvFormat& format, const KvFormat::Sides& sides, int dim,
                                        std::span<const CodecInput> inputs);
/// Keys and values as most attention layers store them, of those that as many do the first.
KvFormat::Sides usual_sides(const KvFormat& format, const ModelConfig& config);

}  // namespace tqkv::measure
