// Which files of a checkpoint hold its weights: model*.safetensors, as mlx-lm reads them, and what the index names
// besides. An index that is stale or missing does no harm where the shards are whole.
#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv {

inline constexpr std::string_view index_file = "model.safetensors.index.json";
inline constexpr std::string_view single_shard = "model.safetensors";

/// Throws Error(checkpoint).
[[noreturn]] void fail_checkpoint(const std::string& message);

/// Tensor (named as in the file) -> shard, as the index says; empty where there is no index.
using WeightMap = std::map<std::string, std::string>;
/// Throws Error(checkpoint) for an index that cannot be read or names something else than plain files.
WeightMap read_index(const std::filesystem::path& directory);

/// The first shard that is missing from `files`, the names of what lies at the top of a checkpoint: a part of a
/// numbered series (model-00002-of-00003.safetensors) of which others are there, or, where no series and no
/// model.safetensors is, a shard of the index. Nothing when the shards are whole.
std::optional<std::string> missing_shard(const std::vector<std::string>& files, const WeightMap& index);

/// The shards that are in `directory`, sorted; plain file names. Throws Error(checkpoint) when there are none.
std::vector<std::string> shard_files(const std::filesystem::path& directory, const WeightMap& index);
/// Names of the files in `directory`; a link to a file that was never fetched is none.
std::vector<std::string> files_of(const std::filesystem::path& directory);

}  // namespace tqkv
