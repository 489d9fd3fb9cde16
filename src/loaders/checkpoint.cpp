#include "tqkv/checkpoint.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/file.h"
#include "loaders/json.h"
#include "loaders/safetensors.h"
#include "loaders/shards.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view index_file = "model.safetensors.index.json";
constexpr std::string_view single_file = "model.safetensors";
constexpr std::size_t longest_text = std::size_t{1} << 28;

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorKind::checkpoint, message);
}

bool present(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);  // false for a link to a file that was never fetched
}

/// Shard -> names (as in the file) that the index says it holds.
using Shards = std::map<std::string, std::set<std::string>>;

Shards shards_of_index(const fs::path& path) {
  const std::string where = path.string();
  const json index = parse_json(read_text(path, longest_text), where, ErrorKind::checkpoint, 8);
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty())
    fail(fmt::format("{}: has no weight_map, expected an object of tensor names and shards", where));
  Shards shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !plain_file_name(shard.get_ref<const std::string&>()))
      fail(fmt::format("{}: the shard of tensor {} is {}, expected a file name", where, shown(tensor),
                       shown(shard.dump())));
    shards[shard.get<std::string>()].insert(tensor);
  }
  return shards;
}

Shards shards_of(const fs::path& directory) {
  if (present(directory / index_file)) return shards_of_index(directory / index_file);
  if (present(directory / single_file)) return {{std::string(single_file), {}}};
  fail(fmt::format("{}: has neither {} nor {}: it is not a checkpoint, or the download is incomplete",
                   directory.string(), index_file, single_file));
}

}  // namespace

std::vector<std::string> shard_files(const fs::path& directory) {
  std::vector<std::string> files;
  for (const auto& [shard, tensors] : shards_of(directory)) files.push_back(shard);
  return files;
}

Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open_without_weights(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error))
    fail(
        fmt::format("{}: is not a directory, expected one with config.json and safetensors files", directory.string()));
  if (!present(directory / "config.json"))
    fail(fmt::format("{}: has no config.json: it is not a checkpoint, or the download is incomplete",
                     directory.string()));
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  return checkpoint;
}

Checkpoint Checkpoint::open(const fs::path& directory) {
  Checkpoint checkpoint = open_without_weights(directory);
  for (const auto& [shard, expected] : shards_of(directory)) {
    const fs::path path = directory / shard;
    if (!present(path))
      fail(fmt::format("{}: {} names it, but it is not there: the download is incomplete", path.string(), index_file));
    checkpoint.shards_.push_back(std::make_unique<MappedFile>(path));
    const std::span<const std::byte> bytes = checkpoint.shards_.back()->bytes();
    std::set<std::string> missing = expected;
    for (SafetensorsEntry& entry : parse_safetensors(bytes, path.string())) {
      missing.erase(entry.name);
      const auto name = canonical_name(entry.name);
      if (!name) continue;
      Tensor tensor{entry.dtype, std::move(entry.shape), bytes.subspan(entry.begin, entry.end - entry.begin)};
      if (!checkpoint.tensors_.emplace(*name, std::move(tensor)).second)
        fail(fmt::format("{}: tensor {} stands in the checkpoint twice", path.string(), shown(entry.name)));
    }
    if (!missing.empty())
      fail(fmt::format("{}: tensor {} is not in it, but {} says so: index and shards are of different checkpoints",
                       path.string(), shown(*missing.begin()), index_file));
  }
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
  fail(fmt::format("{}: tensor {} is missing", directory_.string(), shown(name)));
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
