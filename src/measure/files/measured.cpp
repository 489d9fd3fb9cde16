#include "measure/files/measured.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error_text.h"
#include "base/memory_info.h"
#include "loaders/json.h"
#include "runtime/devices.h"
#include "tqkv/engine.h"
#include "tqkv/error.h"
#include "tqkv/model_config.h"
#include "tqkv/saved_session.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

/// {"device": "cpu:isa=avx2:threads=2", "cpu": "AMD EPYC", "memory": bytes}.
Json machine_json(const DeviceReport& device, std::uint64_t memory) {
  Json json = {{"device", device.device.canonical()}};
  for (const auto& [name, value] : device.values) json[name] = value;
  if (!device.steps.empty()) json["steps"] = device.steps;
  if (!device.warning.empty()) json["warning"] = device.warning;
  if (memory > 0) json["memory"] = memory;
  return json;
}

/// In canonical form. Older files have an "isa" and "threads" instead.
Device device_of(const JsonObject& machine) {
  if (!machine.has("device"))
    return {"cpu", {}, {{"isa", machine.text("isa")}, {"threads", std::to_string(machine.count("threads", 1 << 20))}}};
  try {
    return Device::parse(machine.text("device"));
  } catch (const Error& error) {
    refuse_file(machine.file(), machine.place() + ".device: " + std::string(problem_of(error)));
  }
}

Measured read_measured(const JsonObject& top) {
  Measured measured;
  const JsonObject model = top.object("model"), machine = top.object("machine");
  measured.model = model.text("name");
  measured.shape = model.text("shape");
  measured.fingerprint = model.text("fingerprint");
  measured.command = top.text_or("command", "");
  measured.device.device = device_of(machine);
  if (machine.has("cpu")) measured.device.values = {{"cpu", machine.text("cpu")}};
  for (auto& [name, value] : machine.all_words()) {
    if (name == "cpu" || name == "device" || name == "isa" || name == "threads" || name == "memory") continue;
    if (name == "steps")
      measured.device.steps = std::move(value);
    else if (name == "warning")
      measured.device.warning = std::move(value);
    else
      measured.device.values.emplace_back(std::move(name), std::move(value));
  }
  measured.memory = machine.count_or("memory", 0);
  return measured;
}

}  // namespace

std::string shape_of(const ModelConfig& config) {
  const std::string experts = config.moe() ? fmt::format(", {} experts", config.num_experts) : std::string();
  return fmt::format("{}, {} layers, hidden {}{}", config.model_type, config.num_layers(), config.hidden_size, experts);
}

Measured measured_on(const Engine& engine, std::string model) {
  return {std::move(model), shape_of(engine.config()), model_fingerprint(engine.checkpoint()), "", engine.device(),
          total_memory()};
}

std::string device_bits(const Measured& measured) {
  return bits_of(measured.device.device).canonical();
}

Json header_json(std::string_view kind, const Measured& measured, Json settings) {
  Json json = {{"schema", 1}, {"kind", kind}, {"tool", {{"name", "tqkv"}, {"version", version}}}};
  if (!measured.command.empty()) json["command"] = measured.command;
  json["model"] = {{"name", measured.model}, {"shape", measured.shape}, {"fingerprint", measured.fingerprint}};
  json["machine"] = machine_json(measured.device, measured.memory);
  json["settings"] = std::move(settings);
  return json;
}

std::string file_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

MeasuredFile::MeasuredFile(const std::string& file, std::string_view text, std::span<const std::string_view> kinds,
                           const std::string& wanted)
    : file_(file) {
  json_ = std::make_shared<const nlohmann::json>(parse_json(text, file, ErrorKind::input));
  const JsonObject json = top();
  const auto require_schema = [&] {
    if (const std::uint64_t schema = json.count("schema"); schema != 1)
      refuse_file(file, fmt::format("has schema {}, this version of tqkv reads schema 1", schema));
  };
  if (json.has("schema")) require_schema();
  if (!json.has("kind")) refuse_file(file, fmt::format("has no 'kind': {} was expected", wanted));
  kind_ = json.text("kind");
  if (std::find(kinds.begin(), kinds.end(), kind_) == kinds.end())
    refuse_file(file, fmt::format("is of the kind '{}': {} was expected", kind_.substr(0, 60), wanted));
  require_schema();
  version_ = json.object("tool").text_or("version", "");
  measured_ = read_measured(json);
  settings();  // refuses a file without
}

MeasuredFile read_resumed(const std::string& file, std::string_view text, const Resumed& now) {
  const std::string_view kind = now.kind;
  MeasuredFile before(file, text, {&kind, 1}, fmt::format("a file of 'tqkv {}'", now.command));
  const auto require_same = [&](const std::string& what, const std::string& theirs, const std::string& ours) {
    if (theirs != ours)
      refuse_file(file, fmt::format("{} was {}, now it is {}: --resume needs the same settings; write to another file "
                                    "or leave out --resume",
                                    what, theirs, ours));
  };
  require_same("the version of tqkv", before.version(), std::string(version));
  require_same("the model's fingerprint", before.measured().fingerprint, now.measured.fingerprint);
  require_same("the device", device_bits(before.measured()), device_bits(now.measured));
  const nlohmann::json& found = before.json().at("settings");
  for (const auto& [key, value] : now.settings.items()) {
    const auto other = found.find(key);
    require_same("the setting " + key, other == found.end() ? "absent" : other->dump(), value.dump());
  }
  return before;
}

}  // namespace tqkv::measure
