// The pocket model on MLX, and what its tests have in common.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "support/reference.h"

namespace tqkv::test {

inline const Engine& on_mlx() {
  static const std::unique_ptr<Engine> engine =
      Engine::load(Checkpoint::open(pocket_directory()), {Device::parse("mlx"), Precision::f32, {}});
  return *engine;
}

/// The engine for the processor, on the exact path.
inline const Engine& on_cpu() {
  return pocket(Precision::f32);
}

/// Ids of a golden prompt.
inline std::vector<int> ids_of(const std::string& prompt) {
  return pocket_reference().at(prompt + ".ids").ints();
}

inline std::vector<float> copy(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

inline SessionOptions options_of(int context, int chunk = 2048) {
  SessionOptions options;
  options.context = context;
  options.prefill_chunk = chunk;
  return options;
}

}  // namespace tqkv::test
