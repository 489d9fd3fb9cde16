// The memory plan of a device that is given, for one that stands in no table.
#pragma once
#include "runtime/devices.h"
#include "tqkv/memory_plan.h"

namespace tqkv {

/// plan_memory() for a device of this kind.
MemoryPlan plan_memory(const DeviceKind& kind, const ModelConfig& config, std::uint64_t weight_bytes,
                       const KvFormat& format, const PlanRequest& request);

}  // namespace tqkv
