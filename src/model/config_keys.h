// Which keys a config may have: those that are used, those that mean nothing here, and those of which only some values
// are computed. Every other key is refused, because it may change what the model computes.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "model/config_reader.h"

namespace tqkv {

/// Keys of `text_config`, or of a config without one. Throws Error(config) with the key and its place.
void check_text_keys(const ConfigReader& text);
/// Keys next to `text_config`. What belongs into `text_config` must be there too, with the same value.
void check_top_keys(const ConfigReader& top, const nlohmann::json& text);
/// Keys of `rope_parameters` and `rope_scaling`.
void check_rope_keys(const ConfigReader& rope);
/// Keys of `quantization` that are no names of modules, and of the entry of one module.
void check_quantization_keys(const ConfigReader& entry);

}  // namespace tqkv
