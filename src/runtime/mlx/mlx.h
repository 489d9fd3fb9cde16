// MLX's headers, all that this folder needs, in one place.
#pragma once
#include <mlx/array.h>
#include <mlx/backend/gpu/device_info.h>
#include <mlx/device.h>
#include <mlx/fast.h>
#include <mlx/memory.h>
#include <mlx/ops.h>
#include <mlx/stream.h>
#include <mlx/transforms.h>
#include <mlx/version.h>

namespace tqkv::mlx {

namespace mx = ::mlx::core;

}  // namespace tqkv::mlx
