// generation_config.json.
#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

#include "tqkv/error.h"
#include "tqkv/sampling.h"

namespace tqkv {
namespace {

using nlohmann::json;

const json* member(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

int integer(const json& value, const char* key, std::string_view where) {
  if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    if (number >= 0 && number <= std::numeric_limits<int>::max()) return static_cast<int>(number);
  }
  throw Error(ErrorKind::config, fmt::format("{}: {} must be a whole number from 0", where, key));
}

void read(const json& config, const char* key, std::string_view where, float& out) {
  const json* value = member(config, key);
  if (value == nullptr) return;
  if (!value->is_number()) throw Error(ErrorKind::config, fmt::format("{}: {} must be a number", where, key));
  out = value->get<float>();
}

}  // namespace

GenerationDefaults GenerationDefaults::parse(std::string_view text, std::string_view where) {
  const json config = json::parse(text, nullptr, false);
  if (config.is_discarded()) throw Error(ErrorKind::config, fmt::format("{}: not valid JSON", where));
  if (!config.is_object()) throw Error(ErrorKind::config, fmt::format("{}: must contain a JSON object", where));

  GenerationDefaults defaults;
  Sampling& sampling = defaults.sampling;
  sampling.greedy = true;
  if (const json* value = member(config, "do_sample")) {
    if (!value->is_boolean()) throw Error(ErrorKind::config, fmt::format("{}: do_sample must be true or false", where));
    sampling.greedy = !value->get<bool>();
  }
  read(config, "temperature", where, sampling.temperature);
  read(config, "top_p", where, sampling.top_p);
  read(config, "min_p", where, sampling.min_p);
  read(config, "repetition_penalty", where, sampling.repetition_penalty);
  read(config, "presence_penalty", where, sampling.presence_penalty);
  if (const json* value = member(config, "top_k")) sampling.top_k = integer(*value, "top_k", where);
  if (const json* value = member(config, "eos_token_id")) {
    if (value->is_array())
      for (const json& id : *value) defaults.stop_ids.push_back(integer(id, "eos_token_id", where));
    else
      defaults.stop_ids.push_back(integer(*value, "eos_token_id", where));
  }
  try {
    check(sampling);
  } catch (const Error& error) {
    throw Error(ErrorKind::config, fmt::format("{}: {}", where, std::string_view(error.what()).substr(8)));
  }
  return defaults;
}

}  // namespace tqkv
