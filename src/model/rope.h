// Rotary position embedding: what a config says of it, and the angles that follow. This is the only place that computes
// them.
#pragma once
#include <vector>

#include "model/config_reader.h"
#include "tqkv/model_config.h"

namespace tqkv {

/// Fills rotary_dim, rope_theta and yarn of `config`, and raises max_position_embeddings to the scaled context. Reads
/// `rope_parameters` and `rope_scaling` of `text`; head_dim and max_position_embeddings must be there already. Throws
/// Error(config) for a kind of scaling other than YaRN and for values that contradict each other.
void read_rope(const ConfigReader& text, ModelConfig& config);

/// The angle of channel pair i at position p is p * inverse_frequency[i], in f32; cosine and sine are multiplied by
/// `scale`. Computed in f32 in the order of transformers (modeling_rope_utils.py).
struct RotaryAngles {
  std::vector<float> inverse_frequency;  // [rotary_dim / 2]
  float scale = 1.0f;

  /// Cosine and sine of every pair at `position`: [rotary_dim / 2] each.
  void at(int position, float* cosine, float* sine) const;
};
RotaryAngles rotary_angles(const ModelConfig& config);

}  // namespace tqkv
