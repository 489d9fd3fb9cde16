// Weights of a checkpoint, bound to their bytes in the mapped shards. Nothing is copied.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model/model.h"
#include "tqkv/checkpoint.h"

namespace tqkv {

/// Finds the tensors of `config` in `checkpoint`, which must hold no other, and checks dtype and shape. Throws
/// Error(checkpoint) that names those that do not fit; Error(config) when the bits of `config` contradict the shapes.
Weights bind_weights(const Checkpoint& checkpoint, const ModelConfig& config);

/// A tensor that a checkpoint of `config` holds, with its bytes as stored.
struct ExpectedTensor {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::string kind;  // "experts", "attention", "linear attention", "shared expert", "router", "mlp", "embedding",
                     // "head", "norms"
  std::uint64_t bytes = 0;
};
/// The tensors that a 4-bit MLX checkpoint of `config` holds: enough to count its bytes without its weights.
std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config);

}  // namespace tqkv
