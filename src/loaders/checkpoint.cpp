#include "tqkv/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/file.h"
#include "loaders/config_file.h"
#include "loaders/safetensors.h"
#include "loaders/shards.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_text = std::size_t{1} << 28;

bool present(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);  // false for a link to a file that was never fetched
}

/// Whether every tensor of the index stands in one of the shards.
bool satisfied(const WeightMap& index, const std::set<std::string, std::less<>>& found) {
  return !index.empty() &&
         std::all_of(index.begin(), index.end(), [&](const auto& entry) { return found.count(entry.first) != 0; });
}

}  // namespace

Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open_without_weights(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error))
    fail_checkpoint(
        fmt::format("{}: is not a directory, expected one with config.json and safetensors files", directory.string()));
  if (!present(directory / "config.json")) refuse_without_config(directory);
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  return checkpoint;
}

Checkpoint Checkpoint::open(const fs::path& directory) {
  Checkpoint checkpoint = open_without_weights(directory);
  const WeightMap index = read_index(directory);
  struct Place {
    std::string name, shard;  // as in the file
  };
  std::set<std::string, std::less<>> found;          // names as in the files
  std::map<std::string, Place, std::less<>> places;  // of canonical names
  for (const std::string& shard : shard_files(directory, index)) {
    const fs::path path = directory / shard;
    checkpoint.shards_.push_back(std::make_unique<MappedFile>(path));
    const std::span<const std::byte> bytes = checkpoint.shards_.back()->bytes();
    for (SafetensorsEntry& entry : parse_safetensors(bytes, path.string())) {
      const auto name = canonical_name(entry.name);
      found.insert(entry.name);
      if (!name) continue;
      const Tensor tensor{entry.dtype, std::move(entry.shape), bytes.subspan(entry.begin, entry.end - entry.begin)};
      const auto [place, first] = places.emplace(*name, Place{entry.name, shard});
      if (first) {
        checkpoint.tensors_.emplace(*name, tensor);
        continue;
      }
      // In two shards under one name: the index says which of them counts.
      const auto named = index.find(entry.name);
      if (named == index.end() || place->second.name != entry.name ||
          (named->second != shard && named->second != place->second.shard))
        fail_checkpoint(fmt::format("{}: tensor {} stands in the checkpoint twice", path.string(), shown(entry.name)));
      if (named->second != shard) continue;
      place->second.shard = shard;
      checkpoint.tensors_.insert_or_assign(*name, tensor);
    }
  }
  if (const auto missing = missing_shard(files_of(directory), index); missing && !satisfied(index, found))
    fail_checkpoint(fmt::format("{}: is not there, but other parts of the checkpoint are: the download is incomplete",
                                (directory / *missing).string()));
  return checkpoint;
}

std::optional<std::string> Checkpoint::text(std::string_view file) const {
  if (!plain_file_name(file))
    throw Error(ErrorKind::internal, fmt::format("{}: is not a plain file name", shown(file)));
  const fs::path path = directory_ / file;
  if (!present(path)) return std::nullopt;
  return read_text(path, longest_text);
}

const Tensor* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const Tensor& Checkpoint::tensor(std::string_view name) const {
  if (const Tensor* tensor = find(name)) return *tensor;
  fail_checkpoint(fmt::format("{}: tensor {} is missing", directory_.string(), shown(name)));
}

std::uint64_t Checkpoint::tensor_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors_) bytes += tensor.bytes.size();
  return bytes;
}

std::uint64_t Checkpoint::mapped_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& shard : shards_) bytes += shard->bytes().size();
  return bytes;
}

}  // namespace tqkv
