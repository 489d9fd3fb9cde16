// The device `mlx`: of the folder mlx, or of no_mlx.cpp in a program that was built without it.
#pragma once
#include "runtime/devices.h"

namespace tqkv {

const DeviceKind& mlx_kind();

}  // namespace tqkv
