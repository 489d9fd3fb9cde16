// The fingerprint of a model: cheap, because a session is restored in less time than its weights are read.
#include "cache/session/fingerprint.h"

#include <nlohmann/json.hpp>
#include <string>

#include "base/checksum.h"
#include "loaders/json.h"
#include "tqkv/saved_session.h"

namespace tqkv {
namespace cache {
namespace {

constexpr std::size_t whole = 4096;  // bytes of a tensor that is taken as it is
constexpr std::size_t sample = 256, samples = 4;

void add(std::string& text, std::span<const std::byte> bytes) {
  text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void add_values(std::string& text, std::span<const std::byte> bytes) {
  if (bytes.size() <= whole) return add(text, bytes);
  for (std::size_t i = 0; i < samples; ++i)  // the first and the last bytes, and two places between them
    add(text, bytes.subspan((bytes.size() - sample) / (samples - 1) * i, sample));
}

}  // namespace

std::string model_fingerprint(const Checkpoint& checkpoint, std::string_view config_json) {
  // Sorted keys and no blanks: how the file is written does not matter.
  std::string text = parse_json(config_json, "config.json", ErrorKind::config, 64).dump();
  for (const auto& [tensor_name, tensor] : checkpoint.tensors()) {
    text += '\n';
    text += tensor_name;
    text += ' ';
    text += name(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) text += ' ' + std::to_string(extent);
    text += '\n';
    add_values(text, tensor.bytes);
  }
  return checksum_128(std::as_bytes(std::span(text)));
}

}  // namespace cache

std::string model_fingerprint(const Checkpoint& checkpoint) {
  return cache::model_fingerprint(checkpoint, checkpoint.text("config.json").value_or("{}"));
}

}  // namespace tqkv
