// What all files of measurements begin with: what was measured, by which version, and where.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "measure/files/json_object.h"
#include "tqkv/device.h"

namespace tqkv {

class Engine;
struct ModelConfig;

namespace measure {

/// What was measured, and where.
struct Measured {
  std::string model, shape, fingerprint;
  std::string command;  ///< empty: the file has none
  DeviceReport device;
  std::uint64_t memory = 0;  ///< of the machine or its container, bytes; 0: not in the file
  /// What the device says of itself first: the model of its processor. Empty where it says nothing.
  std::string processor() const { return device.values.empty() ? "" : device.values.front().second; }
};
/// Shortest description of a model's shape: "qwen3_5_moe, 40 layers, hidden 2048, 256 experts".
std::string shape_of(const ModelConfig& config);
/// `model` is its name.
Measured measured_on(const Engine& engine, std::string model);

/// The device as far as it decides the bits of results.
std::string device_bits(const Measured& measured);

/// {"schema": 1, "kind": kind, "tool": …, "command", "model": …, "machine": …, "settings": settings}.
nlohmann::ordered_json header_json(std::string_view kind, const Measured& measured, nlohmann::ordered_json settings);
/// The text of a file. Bytes that are no UTF-8 are replaced.
std::string file_text(const nlohmann::ordered_json& json, int indent);

/// A file of measurements that was read: what it begins with, and the rest of it.
class MeasuredFile {
 public:
  /// Throws Error(input), naming `file`, for a text that is no JSON object of schema 1 and of one of `kinds`, or whose
  /// beginning is not as header_json() makes it. `wanted` says in messages what was expected: "a file of 'tqkv
  /// benchmark'".
  MeasuredFile(const std::string& file, std::string_view text, std::span<const std::string_view> kinds,
               const std::string& wanted);

  const std::string& kind() const { return kind_; }
  const std::string& version() const { return version_; }
  const Measured& measured() const { return measured_; }
  JsonObject top() const { return {file_, *json_, "the file"}; }
  JsonObject settings() const { return top().object("settings"); }
  const nlohmann::json& json() const { return *json_; }

 private:
  std::string file_, kind_, version_;
  std::shared_ptr<const nlohmann::json> json_;  // objects refer to it
  Measured measured_;
};

/// What a file that --resume continues must have in common with this run.
struct Resumed {
  std::string kind, command;  ///< "evaluation", "evaluate"
  const Measured& measured;
  nlohmann::json settings;
};
/// Throws Error(input), naming the file, for one of another version, model, device or setting, and as MeasuredFile.
MeasuredFile read_resumed(const std::string& file, std::string_view text, const Resumed& now);

}  // namespace measure
}  // namespace tqkv
