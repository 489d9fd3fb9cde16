// The device `cuda` in a program that was built without it.
#pragma once
#include "runtime/devices.h"

namespace tqkv {

const DeviceKind& cuda_kind();

}  // namespace tqkv
