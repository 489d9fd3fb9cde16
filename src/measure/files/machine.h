// The machine of a measurement, as its files name it.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "tqkv/device.h"

namespace tqkv::measure {

class JsonObject;

/// {"device": "cpu:isa=avx2:threads=2", "cpu": "AMD EPYC", "memory": bytes}; 0 bytes are left out.
nlohmann::ordered_json machine_json(const DeviceReport& device, std::uint64_t memory);

/// The device of such an object, in canonical form. Older files have an "isa" and "threads" instead.
Device device_of(const JsonObject& machine);

}  // namespace tqkv::measure
