// How the files of measurements name a model.
#pragma once
#include <string>

namespace tqkv {

class Checkpoint;
struct ModelConfig;

namespace measure {

/// Shortest description of a model's shape: "qwen3_5_moe, 40 layers, hidden 2048, 256 experts".
std::string shape_of(const ModelConfig& config);
/// Hash of config.json, of every tensor's name, type and shape, and of 64 bytes from its middle.
std::string fingerprint(const Checkpoint& checkpoint);

}  // namespace measure
}  // namespace tqkv
