// Working memory: what forward passes need in addition to the caches and states of sessions.
#pragma once
#include <cstdint>

#include "tqkv/engine.h"
#include "tqkv/model_config.h"

namespace tqkv::cpu {

struct Kernels;

inline constexpr int logit_rows = 16;  // rows of logits computed at a time, where every row is asked for

/// What working memory depends on besides the model.
struct WorkSize {
  Precision precision = Precision::fast;
  int chunk = 1;    // most tokens of one forward pass
  int singles = 1;  // of them, most that are their session's only one
  int context = 1;  // most tokens to attend to; from 64 spans of keys on it makes no difference any more
  int threads = 1;
  int space = 0;  // floats of the widest decoded key or value, head_dim or more (cache::widest_vector)
};

/// Bytes of anonymous memory that passes with these kernels take, and one session's logits.
std::uint64_t scratch_bytes(const ModelConfig& config, const WorkSize& size, const Kernels& kernels);

}  // namespace tqkv::cpu
