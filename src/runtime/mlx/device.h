// The device `mlx`: Apple GPUs, or the processor where MLX has no other.
#pragma once
#include <cstdint>
#include <string>

#include "runtime/devices.h"
#include "runtime/mlx/mlx.h"
#include "runtime/mlx_kind.h"

namespace tqkv::mlx {

/// Whether MLX computes on the processor.
bool on_processor();
/// On the processor float32, whatever was asked for: bfloat16 is ten times slower there, and less exact than elsewhere.
/// On a GPU what was asked for: `fast` has bfloat16 in products and norms, and float32 in the delta rule, its gates,
/// the router, decode attention and logits.
Precision precision(const DeviceOptions& options);
/// "Apple M4, applegpu_g16g", or "processor".
std::string gpu_name();
/// Queries of a prompt that attend in one call.
inline constexpr int queries_at_once = 256;
/// Bytes of scores in one call; beyond them MLX's fused attention is asked for, on a GPU.
inline constexpr std::uint64_t most_scores = 256'000'000;
/// Bytes that macOS recommends for the GPU; 0 where there is none.
std::uint64_t working_set();
/// Bytes of arrays that a pass makes and lets go.
std::uint64_t pass_bytes(const ModelConfig& config, const PassSize& size);

}  // namespace tqkv::mlx
