// The device `mlx`: Apple GPUs, or the processor where MLX has no other.
#pragma once
#include "runtime/devices.h"
#include "runtime/mlx_kind.h"

namespace tqkv::mlx {

/// Whether MLX computes on the processor: everything is float32 there.
bool on_processor();
/// Precision that a device of `options` has.
Precision precision_of(const DeviceOptions& options);
/// Bytes of arrays that a pass makes and lets go.
std::uint64_t pass_bytes(const ModelConfig& config, const PassSize& size);

}  // namespace tqkv::mlx
