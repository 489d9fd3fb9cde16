#include "measure/files/machine.h"

#include "base/error_text.h"
#include "measure/files/json_object.h"
#include "tqkv/error.h"

namespace tqkv::measure {

nlohmann::ordered_json machine_json(const DeviceReport& device, std::uint64_t memory) {
  nlohmann::ordered_json json = {{"device", device.device.canonical()}};
  for (const auto& [name, value] : device.values) json[name] = value;
  if (memory > 0) json["memory"] = memory;
  return json;
}

Device device_of(const JsonObject& machine) {
  if (!machine.has("device"))
    return {"cpu", {}, {{"isa", machine.text("isa")}, {"threads", std::to_string(machine.count("threads", 1 << 20))}}};
  try {
    return Device::parse(machine.text("device"));
  } catch (const Error& error) {
    refuse_file(machine.file(), machine.place() + ".device: " + std::string(problem_of(error)));
  }
}

}  // namespace tqkv::measure
