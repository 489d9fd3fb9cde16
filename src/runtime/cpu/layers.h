// The parts of a layer: a mixer, then a dense MLP or experts. Each reads work.normed and leaves its output in
// work.mixed, both [rows, H].
#pragma once
#include <cstddef>

#include "runtime/cpu/pass.h"

namespace tqkv::cpu {

/// Gated full attention; `index` counts the attention layers, as CpuState::caches does.
void full_attention(const Pass& pass, std::size_t index, const AttentionWeights& weights, const LayerVectors& vectors);
/// The gated delta net; `index` counts the linear layers, as CpuState::states does.
void delta_net(const Pass& pass, std::size_t index, const DeltaWeights& weights, const LayerVectors& vectors);
/// A dense SwiGLU.
void mlp(const Pass& pass, const MlpWeights& weights);
/// Routed experts and a shared one; `index` counts all layers.
void experts(const Pass& pass, int index, const LayerWeights& layer);

}  // namespace tqkv::cpu
