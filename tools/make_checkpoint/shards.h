// Shards: safetensors files as MLX writes them, and the folder that holds them whole or not at all.
#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "random_tensor.h"

namespace tqkv::tools {

/// One file: `opening` (length of the header, header), then the data of `tensors` without gaps.
struct Shard {
  std::string name;  // model-00001-of-00004.safetensors
  std::string opening;
  std::span<const RandomTensor> tensors;
  std::uint64_t data_bytes = 0;
  std::uint64_t bytes() const { return opening.size() + data_bytes; }
};

/// Tensors in their order, as many a shard as fit `most_bytes` of data, at least one. Headers are not padded: the data
/// starts at an odd byte in all shards but every fourth, from the third on (the published 35B checkpoint has it so).
/// `note` stands in the metadata of each.
std::vector<Shard> plan_shards(std::span<const RandomTensor> tensors, std::uint64_t most_bytes,
                               const std::string& note);

/// model.safetensors.index.json.
std::string index_of(std::span<const Shard> shards);

struct TextFile {
  std::string name, text;
};

/// Thrown by write_folder() when it was cancelled.
struct Cancelled {};

/// Writes shards and then `texts` to `folder`, which must be empty or absent, from a buffer of 1 MiB; every file is
/// synced. `done` is called after each shard. What was written is removed again when it fails or when `cancel` becomes
/// true (Cancelled). Throws Error(io): before anything is written when the folder is not empty or its disk has too
/// little space.
void write_folder(const std::filesystem::path& folder, std::span<const Shard> shards, std::span<const TextFile> texts,
                  const std::atomic<bool>& cancel, const std::function<void(const Shard&)>& done);

}  // namespace tqkv::tools
