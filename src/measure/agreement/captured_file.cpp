// The file of captured vectors: a safetensors file whose tensors are MODEL.LAYER.keys and so on (docs/measuring.md).
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/checksum.h"
#include "base/file.h"
#include "base/float16.h"
#include "base/printable.h"
#include "base/system_files.h"
#include "loaders/safetensors.h"
#include "measure/agreement/captured.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

// Beyond the numbers of f16 no scalar holds the norm of a vector, and squares of scores leave f32.
constexpr float most_number = 65504, most_scale = 1000;
constexpr int most_tokens = 1 << 20, most_layer = 1 << 16;

std::optional<int> number(const std::string& text) {
  int value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

class Reader {
 public:
  Reader(std::span<const std::byte> file, const std::string& where)
      : where_(where), file_(file), header_(parse_safetensors_file(file, where, ErrorKind::input)) {
    for (const SafetensorsEntry& entry : header_.entries) by_name_.emplace(entry.name, &entry);
  }

  CapturedText read() {
    CapturedText text{where_, checksum_128(file_), metadata("text").value_or(""), {}};
    for (const auto& [name, entry] : by_name_) add_layer(text, name);
    std::stable_sort(text.layers.begin(), text.layers.end(), [](const CapturedLayer& a, const CapturedLayer& b) {
      return a.model != b.model ? a.model < b.model : a.layer < b.layer;
    });
    if (text.layers.empty()) refuse("has no tensors MODEL.LAYER.keys: it contains no captured vectors");
    for (std::size_t i = 0; i < text.layers.size(); ++i) {
      CapturedLayer& layer = text.layers[i];
      layer.index = i > 0 && text.layers[i - 1].model == layer.model ? text.layers[i - 1].index + 1 : 0;
      layer.count =
          static_cast<int>(std::count_if(text.layers.begin(), text.layers.end(),
                                         [&](const CapturedLayer& other) { return other.model == layer.model; }));
    }
    return text;
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    throw Error(ErrorKind::input, printable(fmt::format("{}: {}", where_, problem), Keep::nothing));
  }

  std::optional<std::string> metadata(const std::string& key) const {
    const auto found = header_.metadata.find(key);
    if (found == header_.metadata.end()) return std::nullopt;
    return found->second;
  }

  void add_layer(CapturedText& text, const std::string& keys_name) const {
    constexpr std::string_view suffix = ".keys";
    if (!keys_name.ends_with(suffix)) return;
    const std::string prefix = keys_name.substr(0, keys_name.size() - suffix.size());
    const std::size_t dot = prefix.rfind('.');
    const auto number_of_layer = number(dot == std::string::npos ? "" : prefix.substr(dot + 1));
    if (!number_of_layer || *number_of_layer < 0 || *number_of_layer >= most_layer || dot == 0)
      refuse(fmt::format("{}: a name like gemma.5.keys was expected", keys_name));
    CapturedLayer layer;
    layer.model = prefix.substr(0, dot);
    layer.layer = *number_of_layer;

    const SafetensorsEntry& keys = tensor(keys_name, 3);
    const SafetensorsEntry& queries = tensor(prefix + ".queries", 3);
    layer.tokens = extent(keys, 0, most_tokens);
    layer.kv_heads = extent(keys, 1, 1024);
    layer.head_dim = extent(keys, 2, 1024);
    layer.heads = extent(queries, 1, 1024);
    const SafetensorsEntry& values = tensor(prefix + ".values", 3);
    if (values.shape != keys.shape) refuse(fmt::format("{}.values: its shape is not that of the keys", prefix));
    if (queries.shape[2] != keys.shape[2])
      refuse(fmt::format("{}: heads of {} channels, and those of the keys have {}", queries.name, queries.shape[2],
                         layer.head_dim));
    if (layer.heads % layer.kv_heads != 0)
      refuse(fmt::format("{}: {} heads cannot share {} KV heads", queries.name, layer.heads, layer.kv_heads));
    layer.keys = floats(keys);
    layer.values = floats(values);
    layer.queries = floats(queries);
    layer.positions = positions(tensor(prefix + ".query_positions", 1), extent(queries, 0, most_tokens), layer.tokens);
    layer.scale = scale_of(layer.model);
    layer.window = window_of(prefix);
    text.layers.push_back(std::move(layer));
  }

  const SafetensorsEntry& tensor(const std::string& name, std::size_t dimensions) const {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) refuse(fmt::format("has no tensor {}", name));
    if (found->second->shape.size() != dimensions)
      refuse(fmt::format("{}: {} dimensions, expected {}", name, found->second->shape.size(), dimensions));
    return *found->second;
  }

  int extent(const SafetensorsEntry& entry, std::size_t at, int most) const {
    const std::int64_t value = entry.shape[at];
    if (value < 1 || value > most)
      refuse(fmt::format("{}: extent {} is not between 1 and {}", entry.name, value, most));
    return static_cast<int>(value);
  }

  std::vector<float> floats(const SafetensorsEntry& entry) const {
    const std::byte* bytes = file_.data() + entry.begin;
    const std::size_t count = (entry.end - entry.begin) / size_of(entry.dtype);
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      if (entry.dtype == DType::f32)
        values[i] = load<float>(bytes + 4 * i);
      else if (entry.dtype == DType::f16)
        values[i] = f16_to_f32(load<std::uint16_t>(bytes + 2 * i));
      else if (entry.dtype == DType::bf16)
        values[i] = bf16_to_f32(load<std::uint16_t>(bytes + 2 * i));
      else
        refuse(fmt::format("{}: f16, bf16 or f32 numbers were expected", entry.name));
      if (!std::isfinite(values[i])) refuse(fmt::format("{}: has a number that is not finite", entry.name));
      if (std::abs(values[i]) > most_number)
        refuse(
            fmt::format("{}: has the number {}, and those of f16 are expected, which end at {}: scale the vectors down",
                        entry.name, values[i], most_number));
    }
    return values;
  }

  std::vector<int> positions(const SafetensorsEntry& entry, int queries, int tokens) const {
    if (entry.dtype != DType::i32) refuse(fmt::format("{}: i32 numbers were expected", entry.name));
    if (entry.shape[0] != queries)
      refuse(fmt::format("{}: {} positions of {} queries", entry.name, entry.shape[0], queries));
    std::vector<int> values;
    for (int i = 0; i < queries; ++i) {
      const auto value = load<std::int32_t>(file_.data() + entry.begin + 4 * static_cast<std::size_t>(i));
      if (value < 0 || value >= tokens || (!values.empty() && value <= values.back()))
        refuse(fmt::format("{}: position {} is not a token of the {} in ascending order", entry.name, value, tokens));
      values.push_back(value);
    }
    return values;
  }

  float scale_of(const std::string& model) const {
    const std::string key = model + ".attention_scale";
    const auto text = metadata(key);
    const auto json = nlohmann::json::parse(text.value_or(""), nullptr, false);  // in every locale the same
    const float scale = json.is_number() ? json.get<float>() : 0.0f;
    if (!(scale > 0) || !(scale <= most_scale))
      refuse(fmt::format("metadata {}: {}", key,
                         text ? fmt::format("a positive number up to {} was expected", most_scale) : "is missing"));
    return scale;
  }

  int window_of(const std::string& prefix) const {
    const std::string kind = metadata(prefix + ".kind").value_or("global");
    if (kind == "global") return 0;
    if (kind != "local") refuse(fmt::format("metadata {}.kind: global or local was expected", prefix));
    const auto window = number(metadata(prefix + ".window").value_or(""));
    if (!window || *window < 1) refuse(fmt::format("metadata {}.window: a number of tokens was expected", prefix));
    return *window;
  }

  std::string where_;
  std::span<const std::byte> file_;
  SafetensorsFile header_;
  std::map<std::string, const SafetensorsEntry*> by_name_;
};

}  // namespace

CapturedText read_captured(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  return parse_captured(mapped.bytes(), file.string());
}

CapturedText parse_captured(std::span<const std::byte> file, const std::string& where) {
  return Reader(file, where).read();
}

}  // namespace tqkv::measure
