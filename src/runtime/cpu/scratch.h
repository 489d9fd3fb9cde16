// Working memory of a session: what it allocates beside its cache.
#pragma once
#include <cstdint>

#include "tqkv/engine.h"
#include "tqkv/model_config.h"

namespace tqkv::cpu {

/// Bytes of anonymous memory that a session with chunks of `chunk` tokens takes beside cache and state: bounded in the
/// length of the context. `space`: floats of the widest decoded key or value (cache::widest_vector).
std::uint64_t scratch_bytes(const ModelConfig& config, Precision precision, int chunk, int threads, int space);

}  // namespace tqkv::cpu
