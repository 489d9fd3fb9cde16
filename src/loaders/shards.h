// Which files of a checkpoint hold its weights.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace tqkv {

/// The files that the index of the checkpoint in `directory` names, or model.safetensors alone, sorted; plain file
/// names, which need not exist. Throws Error(checkpoint) for an index that cannot be used and where there is neither.
std::vector<std::string> shard_files(const std::filesystem::path& directory);

}  // namespace tqkv
