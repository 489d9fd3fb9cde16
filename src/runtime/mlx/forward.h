// The forward pass in operations of MLX, from ids to the residual stream. Arrays are [tokens, channels] of the rows of
// all pieces, one behind the other; attention and the delta rule take a piece at a time.
#pragma once
#include <atomic>
#include <span>
#include <vector>

#include "runtime/device_state.h"
#include "runtime/mlx/engine.h"
#include "runtime/mlx/state.h"

namespace tqkv::mlx {

/// Rows first..first+count-1 of a pass belong to one session.
struct Segment {
  MlxState* state = nullptr;
  int first = 0, count = 0;
  int position = 0;  // of the first row
  Observer* observer = nullptr;
  MlxSnapshot* keep = nullptr;                // becomes the state behind the last row, layer by layer
  mx::array of(const mx::array& rows) const;  // its rows
};

/// Thrown where a pass is left because it is to stop.
struct Stopped {};

struct Pass {
  const MlxEngine& engine;
  const ModelConfig& config;
  std::vector<Segment> segments;
  mx::array cosine, sine;  // [tokens, rotary_dim / 2]
  const std::atomic<bool>* stop = nullptr;
};

/// hidden [tokens, H] of the rows of `pieces`; states get their tokens. Of few rows nothing is
/// computed yet. Throws Stopped.
mx::array forward(const Pass& pass, const mx::array& ids);

mx::array rms_norm(const ModelConfig& config, const mx::array& x, const mx::array& weight);
mx::array silu(const mx::array& x);

/// The mixers and the MLPs: normed [tokens, H] -> [tokens, H]. `index` counts the layers of its kind.
mx::array full_attention(const Pass& pass, std::size_t index, const AttentionArrays& weights, const mx::array& normed);
mx::array delta_net(const Pass& pass, std::size_t index, const DeltaArrays& weights, const mx::array& normed);
mx::array mlp(const MlpArrays& weights, const mx::array& normed);
mx::array experts(const ModelConfig& config, const ExpertArrays& weights, const mx::array& normed);

}  // namespace tqkv::mlx
