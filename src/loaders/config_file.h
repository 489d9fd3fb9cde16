// config.json of a checkpoint: no checkpoint opens without it.
#pragma once
#include <filesystem>
#include <string>

#include "tqkv/checkpoint.h"

namespace tqkv {

/// Its text. Throws Error(checkpoint) where it has gone since the checkpoint was opened.
std::string config_text(const Checkpoint& checkpoint);
/// What messages call it: its path.
std::string config_place(const Checkpoint& checkpoint);
/// Throws Error(checkpoint) for a directory that has none.
[[noreturn]] void refuse_without_config(const std::filesystem::path& directory);

}  // namespace tqkv
