// One forward pass of a batch of tokens. Each formula of docs/architecture.md stands once, under the name it has there:
// the layers in layers.h, one file each. What is computed for each row alone runs over the whole batch; what looks at
// the past (attention, convolution, delta rule) goes segment by segment.
#pragma once
#include <functional>
#include <span>

#include "runtime/cpu/pass.h"

namespace tqkv::cpu {

/// Through all layers: every segment's state has its tokens afterwards, and work.hidden their residual stream.
void forward(const Pass& pass);
/// Logits [vocab] of a row, after forward().
void logits(const Pass& pass, int row, float* out);
/// Of each of the rows given, one after the other.
void logits(const Pass& pass, std::span<const int> rows,
            const std::function<void(int row, std::span<const float>)>& sink);

}  // namespace tqkv::cpu
