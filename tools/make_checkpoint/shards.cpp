#include "shards.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/file.h"
#include "tqkv/error.h"

namespace tqkv::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::string opening_of(std::span<const RandomTensor> tensors, const std::string& note, bool odd) {
  const auto header_with = [&](const std::string& text) {
    ordered_json header = {{"__metadata__", {{"format", "mlx"}, {"weights", text}}}};
    std::uint64_t offset = 0;
    for (const RandomTensor& tensor : tensors) {
      const ExpectedTensor& is = tensor.expected;
      header[is.name] = {{"dtype", name(is.dtype)}, {"shape", is.shape}, {"data_offsets", {offset, offset + is.bytes}}};
      offset += is.bytes;
    }
    return header.dump();
  };
  std::string header = header_with(note);
  if ((header.size() % 2 == 1) != odd) header = header_with(note + ".");
  std::string opening;
  for (int shift = 0; shift < 64; shift += 8) opening += static_cast<char>(header.size() >> shift & 255);
  return opening + header;
}

/// Removes on the way out what it was told of, the latest first, unless it was told to keep it. Folders only when
/// empty.
class Undo {
 public:
  Undo() = default;
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    std::error_code ignored;
    for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) fs::remove(*path, ignored);
  }
  void add(const fs::path& path) { paths_.push_back(path); }
  void keep() { paths_.clear(); }

 private:
  std::vector<fs::path> paths_;
};

[[noreturn]] void fail(const fs::path& path, const std::string& what) {
  throw Error(ErrorKind::io, fmt::format("{}: {}", path.string(), what));
}

void require_empty(const fs::path& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (!fs::exists(status)) {
    if (status.type() != fs::file_type::not_found) fail(folder, error.message());
    return;
  }
  if (!fs::is_directory(status)) fail(folder, "is a file, expected an empty folder or a new one");
  const bool empty = fs::is_empty(folder, error);
  if (error) fail(folder, fmt::format("cannot be read: {}", error.message()));
  if (!empty) fail(folder, "is not empty: name a new folder, or remove what is in it");
}

/// `path` and its parents that do not exist, the nearest to the root first.
std::vector<fs::path> absent(fs::path path) {
  std::vector<fs::path> missing;
  std::error_code error;
  while (!path.empty() && !fs::exists(path, error)) {
    missing.push_back(path);
    path = path.parent_path();
  }
  std::reverse(missing.begin(), missing.end());
  return missing;
}

void require_space(const fs::path& folder, std::uint64_t bytes) {
  fs::path there = folder;
  std::error_code error;
  while (!fs::exists(there, error) && there.has_relative_path()) there = there.parent_path();
  const fs::space_info space = fs::space(there, error);
  if (error) fail(there, fmt::format("the free space cannot be read: {}", error.message()));
  if (space.available < bytes)
    fail(folder, fmt::format("{} bytes are needed, but its disk has {} free: free some space, name another disk, or "
                             "write fewer layers with --layers",
                             bytes, space.available));
}

}  // namespace

std::vector<Shard> plan_shards(std::span<const RandomTensor> tensors, std::uint64_t most_bytes,
                               const std::string& note) {
  std::vector<Shard> shards;
  for (std::size_t begin = 0; begin < tensors.size();) {
    Shard shard;
    std::size_t end = begin;
    while (end < tensors.size() && (end == begin || shard.data_bytes + tensors[end].expected.bytes <= most_bytes))
      shard.data_bytes += tensors[end++].expected.bytes;
    shard.tensors = tensors.subspan(begin, end - begin);
    shard.opening = opening_of(shard.tensors, note, shards.size() % 4 != 2);
    shards.push_back(std::move(shard));
    begin = end;
  }
  for (std::size_t i = 0; i < shards.size(); ++i)
    shards[i].name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  return shards;
}

std::string index_of(std::span<const Shard> shards) {
  std::uint64_t total = 0;
  nlohmann::json map = nlohmann::json::object();
  for (const Shard& shard : shards) {
    total += shard.data_bytes;
    for (const RandomTensor& tensor : shard.tensors) map[tensor.expected.name] = shard.name;
  }
  return nlohmann::json{{"metadata", {{"total_size", total}}}, {"weight_map", map}}.dump(4) + "\n";
}

void write_folder(const fs::path& folder, std::span<const Shard> shards, std::span<const TextFile> texts,
                  const std::atomic<bool>& cancel, const std::function<void(const Shard&)>& done) {
  require_empty(folder);
  constexpr std::uint64_t reserve = std::uint64_t{1} << 24;  // for the file system's own tables
  std::uint64_t needed = reserve;
  for (const Shard& shard : shards) needed += shard.bytes();
  for (const TextFile& file : texts) needed += file.text.size();
  require_space(fs::absolute(folder), needed);

  Undo undo;
  for (const fs::path& missing : absent(folder)) {
    std::error_code error;
    if (!fs::create_directory(missing, error) && error)
      fail(missing, fmt::format("the folder cannot be created: {}", error.message()));
    undo.add(missing);
  }
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (const Shard& shard : shards) {
    AtomicFile file(folder / shard.name);
    file.write(shard.opening);
    for (const RandomTensor& tensor : shard.tensors) {
      for (std::uint64_t offset = 0; offset < tensor.expected.bytes; offset += buffer.size()) {
        if (cancel.load()) throw Cancelled{};
        const std::uint64_t left = tensor.expected.bytes - offset;
        const std::span<std::byte> part(buffer.data(), std::min<std::uint64_t>(left, buffer.size()));
        tensor.fill(offset, part);
        file.write(part);
      }
    }
    file.commit();
    undo.add(folder / shard.name);
    done(shard);
  }
  for (const TextFile& text : texts) {
    AtomicFile file(folder / text.name);
    file.write(std::string_view(text.text));
    file.commit();
    undo.add(folder / text.name);
  }
  if (cancel.load()) throw Cancelled{};
  undo.keep();
}

}  // namespace tqkv::tools
