#include "model/quantization.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "loaders/tensor_names.h"
#include "model/config_keys.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::config, fmt::format("{}: {}", where, what));
}

/// `entry` is the whole object or one module's; what a module leaves out has MLX's default (4 bits, group 64, affine).
Quantization read_entry(const json& entry, const std::string& where) {
  if (const auto mode = entry.find("mode"); mode != entry.end() && *mode != "affine")
    fail(where, fmt::format("the quantization mode is {}, only \"affine\" is supported", shown(mode->dump())));
  const auto integer = [&](const char* key, int fallback) {
    const auto value = entry.find(key);
    if (value == entry.end()) return fallback;
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() > 4096)
      fail(where, fmt::format("{} is {}, expected a small positive number", key, shown(value->dump())));
    return value->get<int>();
  };
  Quantization quantization;
  quantization.bits = integer("bits", 4);
  quantization.group_size = integer("group_size", 64);
  if (quantization.bits != 4 && quantization.bits != 8)
    fail(where, fmt::format("the weights have {} bits, only 4 and 8 are supported", quantization.bits));
  if (quantization.group_size != 64)
    fail(where, fmt::format("the weights are quantized in groups of {}, only groups of 64 are supported",
                            quantization.group_size));
  return quantization;
}

}  // namespace

void read_quantization(const json& document, const std::string& where, ModelConfig& config) {
  const json* found = nullptr;
  std::string place;
  for (const char* key : {"quantization", "quantization_config"}) {
    const auto entry = document.find(key);
    if (entry == document.end() || entry->is_null()) continue;
    if (!entry->is_object()) fail(where, fmt::format("{} is not an object", key));
    if (found && *found != *entry) fail(where, "quantization and quantization_config differ, expected two copies");
    if (!found) place = fmt::format("{}: {}", where, key);
    found = &*entry;
  }
  if (!found) return;  // not quantized: bits stay 0
  if (const auto method = found->find("quant_method"); method != found->end() && !method->is_null())
    fail(place, fmt::format("quant_method is {}, only MLX affine quantization is supported", shown(method->dump())));
  if (!found->contains("bits") || !found->contains("group_size")) fail(place, "has no bits or no group_size");
  config.quantization = read_entry(*found, place);
  for (const auto& [key, value] : found->items()) {
    if (key == "bits" || key == "group_size" || key == "mode" || value.is_null()) continue;
    const std::string module_place = fmt::format("{}: {}", place, shown(key));
    if (!value.is_object() && !value.is_boolean())
      fail(module_place, fmt::format("is {}, expected an object or false", shown(value.dump())));
    const auto module = canonical_name(key);
    if (!module) continue;
    Quantization own = config.quantization;
    if (value.is_object()) {
      check_quantization_keys(ConfigReader(value, module_place));
      own = read_entry(value, module_place);
    }
    if (value == false) own.bits = 0;
    if (!config.overrides.emplace(*module, own).second) fail(module_place, "names a module twice");
  }
}

Quantization quantization_of(const ModelConfig& config, const std::string& module) {
  const auto found = config.overrides.find(module);
  return found == config.overrides.end() ? config.quantization : found->second;
}

}  // namespace tqkv
