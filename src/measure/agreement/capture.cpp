#include "measure/agreement/capture.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "loaders/safetensors.h"
#include "tqkv/error.h"
#include "tqkv/version.h"

namespace tqkv::measure {

Capture::Capture(const ModelConfig& config, std::span<const int> ids, const std::filesystem::path& file)
    : total_(static_cast<int>(ids.size())), heads_(config.num_key_value_heads), dim_(config.head_dim) {
  std::vector<NamedShape> tensors;
  const std::uint64_t side_bytes = ids.size() * static_cast<std::uint64_t>(config.kv_dim()) * sizeof(float);
  for (int layer = 0; layer < config.num_layers(); ++layer) {
    if (config.layers[static_cast<std::size_t>(layer)] != LayerKind::full_attention) continue;
    Layer entry;
    entry.layer = layer;
    for (auto* sample : {&entry.key_sample, &entry.value_sample})
      for (int head = 0; head < heads_; ++head) sample->push_back({layer, head, {}});
    entry.keys_at = tensors.size() * side_bytes;
    entry.values_at = entry.keys_at + side_bytes;
    for (const char* side : {"keys", "values"})
      tensors.push_back({fmt::format("layers.{}.{}", layer, side), DType::f32, {total_, heads_, dim_}});
    layers_.push_back(std::move(entry));
  }
  if (file.empty()) return;
  const std::uint64_t ids_at = tensors.size() * side_bytes;
  tensors.push_back({"ids", DType::i32, {total_}});
  const std::string header = safetensors_header(tensors, {{"tool", fmt::format("tqkv {}", version)}});
  for (Layer& layer : layers_) {
    layer.keys_at += header.size();
    layer.values_at += header.size();
  }
  file_ = std::make_unique<AtomicFile>(file);
  file_->write(header);
  const std::vector<std::int32_t> narrow(ids.begin(), ids.end());
  file_->write_at(header.size() + ids_at, std::as_bytes(std::span(narrow)));
}

Capture::Layer& Capture::layer_of(int layer) {
  const auto found =
      std::find_if(layers_.begin(), layers_.end(), [&](const Layer& entry) { return entry.layer == layer; });
  if (found == layers_.end())
    throw Error(ErrorKind::internal, fmt::format("capture: layer {} has no keys and values", layer));
  return *found;
}

// Rows of tokens first, first + 1, …: every token whose place starts one of sampled_tokens equal parts.
void Capture::sample(std::vector<CodecVectors>& heads, std::span<const float> rows, int first) const {
  const auto width = static_cast<std::size_t>(heads_) * static_cast<std::size_t>(dim_);
  const auto part_of = [&](int token) { return static_cast<std::int64_t>(token) * sampled_tokens / total_; };
  for (std::size_t row = 0; (row + 1) * width <= rows.size(); ++row) {
    const int token = first + static_cast<int>(row);
    if (token > 0 && part_of(token) == part_of(token - 1)) continue;
    for (std::size_t head = 0; head < heads.size(); ++head) {
      const auto vector =
          rows.subspan(row * width + head * static_cast<std::size_t>(dim_), static_cast<std::size_t>(dim_));
      heads[head].values.insert(heads[head].values.end(), vector.begin(), vector.end());
    }
  }
}

void Capture::keys_values(int layer, std::span<const float> keys, std::span<const float> values, int tokens) {
  Layer& entry = layer_of(layer);
  sample(entry.key_sample, keys, entry.tokens);
  sample(entry.value_sample, values, entry.tokens);
  if (file_) {
    const std::uint64_t done = static_cast<std::uint64_t>(entry.tokens) * static_cast<std::uint64_t>(heads_) *
                               static_cast<std::uint64_t>(dim_) * sizeof(float);
    file_->write_at(entry.keys_at + done, std::as_bytes(keys));
    file_->write_at(entry.values_at + done, std::as_bytes(values));
  }
  entry.tokens += tokens;
}

void Capture::commit() {
  for (const Layer& layer : layers_) {
    if (layer.tokens != total_)
      throw Error(ErrorKind::internal,
                  fmt::format("capture: layer {} has {} tokens of {}", layer.layer, layer.tokens, total_));
  }
  if (file_) file_->commit();
  file_.reset();
}

std::vector<CodecInput> Capture::inputs() const {
  CodecInput keys{captured_keys, {}}, values{captured_values, {}};
  for (const Layer& layer : layers_) {
    keys.parts.insert(keys.parts.end(), layer.key_sample.begin(), layer.key_sample.end());
    values.parts.insert(values.parts.end(), layer.value_sample.begin(), layer.value_sample.end());
  }
  return {std::move(keys), std::move(values)};
}

}  // namespace tqkv::measure
