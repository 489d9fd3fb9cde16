// The fingerprint of a model whose config.json was read before.
#pragma once
#include <string>
#include <string_view>

#include "tqkv/checkpoint.h"

namespace tqkv::cache {

std::string model_fingerprint(const Checkpoint& checkpoint, std::string_view config_json);

}  // namespace tqkv::cache
