#include "loaders/shards.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "loaders/json.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t longest_index = std::size_t{1} << 28;
constexpr std::string_view extension = ".safetensors";

bool is_shard(std::string_view file) {
  return file.substr(0, 5) == "model" && file.size() > extension.size() &&
         file.substr(file.size() - extension.size()) == extension;
}

/// "model-00002-of-00003.safetensors".
struct Part {
  std::string series;  // "model-?-of-00003"
  int number = 0, count = 0;
  std::string name(int other) const {
    return series.substr(0, series.find('?')) + fmt::format("{:05}", other) + series.substr(series.find('?') + 1) +
           std::string(extension);
  }
};

std::optional<int> five_digits(std::string_view text) {
  int value = 0;
  if (text.size() != 5) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? std::optional(value) : std::nullopt;
}

std::optional<Part> part_of(std::string_view file) {
  constexpr std::string_view pattern = "-00001-of-00003";
  if (file.size() <= pattern.size() + extension.size()) return std::nullopt;
  const std::string_view stem = file.substr(0, file.size() - extension.size());
  const std::string_view head = stem.substr(0, stem.size() - pattern.size()), tail = stem.substr(head.size());
  const auto number = five_digits(tail.substr(1, 5)), count = five_digits(tail.substr(10));
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || !number || !count || head.find('?') != std::string_view::npos)
    return std::nullopt;
  return Part{fmt::format("{}-?-of-{}", head, tail.substr(10)), *number, *count};
}

bool has(const std::vector<std::string>& files, std::string_view name) {
  return std::find(files.begin(), files.end(), name) != files.end();
}

}  // namespace

void fail_checkpoint(const std::string& message) {
  throw Error(ErrorKind::checkpoint, message);
}

WeightMap read_index(const fs::path& directory) {
  const fs::path path = directory / index_file;
  std::error_code error;
  if (!fs::exists(path, error)) return {};
  const std::string where = path.string();
  const json index = parse_json(read_text(path, longest_index), where, ErrorKind::checkpoint, 8);
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty())
    fail_checkpoint(fmt::format("{}: has no weight_map, expected an object of tensor names and shards", where));
  WeightMap shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !plain_file_name(shard.get_ref<const std::string&>()))
      fail_checkpoint(fmt::format("{}: the shard of tensor {} is {}, expected a file name", where, shown(tensor),
                                  shown(shard.dump())));
    shards.emplace(tensor, shard.get<std::string>());
  }
  return shards;
}

std::optional<std::string> missing_shard(const std::vector<std::string>& files, const WeightMap& index) {
  std::set<std::string> named;
  for (const auto& [tensor, shard] : index) named.insert(shard);
  const auto absent =
      std::find_if(named.begin(), named.end(), [&](const std::string& shard) { return !has(files, shard); });
  if (!named.empty() && absent == named.end()) return std::nullopt;
  if (has(files, single_shard)) return std::nullopt;
  std::map<std::string, std::pair<Part, std::set<int>>> series;
  for (const std::string& file : files)
    if (const auto part = part_of(file); part && is_shard(file)) {
      auto& [first, numbers] = series.emplace(part->series, std::pair(*part, std::set<int>())).first->second;
      numbers.insert(part->number);
    }
  std::optional<std::string> missing;
  for (const auto& [name, found] : series) {
    const auto& [part, numbers] = found;
    int next = 1;
    while (next <= part.count && numbers.count(next) != 0) ++next;
    if (next > part.count) return std::nullopt;  // a whole series
    if (!missing) missing = part.name(next);
  }
  if (missing) return missing;
  if (absent != named.end()) {
    const bool others = std::any_of(files.begin(), files.end(),
                                    [&](const std::string& file) { return is_shard(file) && named.count(file) == 0; });
    if (!others) return *absent;
  }
  return std::nullopt;
}

std::vector<std::string> files_of(const fs::path& directory) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    if (std::error_code none; fs::is_regular_file(entry->path(), none))
      files.push_back(entry->path().filename().string());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> shard_files(const fs::path& directory, const WeightMap& index) {
  const std::vector<std::string> files = files_of(directory);
  std::set<std::string> shards;
  for (const std::string& file : files)
    if (is_shard(file)) shards.insert(file);
  for (const auto& [tensor, shard] : index)
    if (has(files, shard)) shards.insert(shard);
  if (!shards.empty()) return {shards.begin(), shards.end()};
  if (const auto missing = missing_shard(files, index))
    fail_checkpoint(fmt::format("{}: {} names it, but it is not there: the download is incomplete",
                                (directory / *missing).string(), index_file));
  fail_checkpoint(
      fmt::format("{}: has no {} and no other model*.safetensors: it is not a checkpoint, or the download is "
                  "incomplete",
                  directory.string(), single_shard));
}

}  // namespace tqkv
