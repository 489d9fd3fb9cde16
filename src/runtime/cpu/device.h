// The CPU in the table of devices.
#pragma once
#include "runtime/cpu/kernels.h"
#include "runtime/devices.h"

namespace tqkv::cpu {

const DeviceKind& device_kind();

/// The kernels that `device` names, or the best ones here. Throws Error(usage) for those that this processor lacks.
const Kernels& kernels_of(const Device& device);
/// The number of threads that `device` names, or that of the cores.
int threads_of(const Device& device);

}  // namespace tqkv::cpu
