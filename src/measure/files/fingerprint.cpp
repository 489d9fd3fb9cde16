#include "measure/files/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>

#include "measure/figures/hash.h"
#include "tqkv/checkpoint.h"
#include "tqkv/model_config.h"

namespace tqkv::measure {

std::string shape_of(const ModelConfig& config) {
  const std::string experts = config.moe() ? fmt::format(", {} experts", config.num_experts) : std::string();
  return fmt::format("{}, {} layers, hidden {}{}", config.model_type, config.num_layers(), config.hidden_size, experts);
}

std::string fingerprint(const Checkpoint& checkpoint) {
  constexpr std::size_t sample = 64;
  Digest digest;
  digest.add(std::string_view(checkpoint.text("config.json").value_or("")));
  for (const auto& [tensor_name, tensor] : checkpoint.tensors()) {
    digest.add(std::string_view(tensor_name));
    digest.add(name(tensor.dtype));
    digest.add(static_cast<std::uint64_t>(tensor.shape.size()));
    for (const std::int64_t extent : tensor.shape) digest.add(static_cast<std::uint64_t>(extent));
    const std::size_t count = std::min(sample, tensor.bytes.size());
    digest.add(tensor.bytes.subspan((tensor.bytes.size() - count) / 2, count));
  }
  return digest.hex();
}

}  // namespace tqkv::measure
