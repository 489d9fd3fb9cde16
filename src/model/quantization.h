// The `quantization` object of config.json.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tqkv/model_config.h"

namespace tqkv {

/// Fills config.quantization and config.overrides from `quantization` or `quantization_config` of the whole document.
/// Throws Error(config) for a mode, bits or group size that tqkv does not read.
void read_quantization(const nlohmann::json& document, const std::string& where, ModelConfig& config);

/// How `module` (canonical name) is stored according to the config.
Quantization quantization_of(const ModelConfig& config, const std::string& module);

}  // namespace tqkv
