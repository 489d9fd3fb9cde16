// generation_config.json.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "tqkv/error.h"
#include "tqkv/sampling.h"

namespace tqkv {
namespace {

using nlohmann::json;

const json* member(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int> whole(const json& value) {
  if (!value.is_number()) return std::nullopt;
  const double number = value.get<double>();  // 20.0 is 20
  if (number != std::floor(number) || std::abs(number) > std::numeric_limits<int>::max()) return std::nullopt;
  return static_cast<int>(number);
}

int id_in(const json& value, std::string_view where) {
  const std::optional<int> id = whole(value);
  if (!id || *id < 0)
    throw Error(ErrorKind::config, fmt::format("{}: eos_token_id must be a whole number from 0", where));
  return *id;
}

/// Reads the values of the sampling one by one; what is wrong with one is kept for later.
class Reader {
 public:
  Reader(const json& config, std::string_view where, GenerationDefaults& defaults)
      : config_(config), where_(where), defaults_(defaults) {}

  /// `off` is what other programs write for "off"; `out` stays as it is then, and when the key is absent or null.
  template <class Number>
  void number(const char* key, Number Sampling::*out, std::optional<double> off = {}) {
    const json* value = member(config_, key);
    if (value == nullptr) return;
    if (!value->is_number()) return fault(key, fmt::format("{} must be a number", key));
    if (off && value->get<double>() == *off) return;
    Sampling one;
    if constexpr (std::is_integral_v<Number>) {
      const std::optional<int> number = whole(*value);
      if (!number) return fault(key, fmt::format("{} must be a whole number", key));
      one.*out = *number;
    } else {
      one.*out = value->get<float>();
    }
    try {
      check(one);
      defaults_.sampling.*out = one.*out;
    } catch (const Error& error) {
      fault(key, error.what() + 8);  // without [usage]
    }
  }
  void do_sample() {
    const json* value = member(config_, "do_sample");
    if (value == nullptr) return;
    if (!value->is_boolean()) return fault("do_sample", "do_sample must be true or false");
    defaults_.sampling.greedy = !value->get<bool>();
  }

 private:
  void fault(const char* key, const std::string& message) {
    defaults_.faults.push_back({key, fmt::format("{}: {}", where_, message)});
  }
  const json& config_;
  std::string_view where_;
  GenerationDefaults& defaults_;
};

}  // namespace

GenerationDefaults GenerationDefaults::parse(std::string_view text, std::string_view where) {
  const json config = json::parse(text, nullptr, false);
  if (config.is_discarded()) throw Error(ErrorKind::config, fmt::format("{}: not valid JSON", where));
  if (!config.is_object()) throw Error(ErrorKind::config, fmt::format("{}: must contain a JSON object", where));

  GenerationDefaults defaults;
  defaults.sampling.greedy = true;
  Reader reader(config, where, defaults);
  reader.do_sample();
  reader.number("temperature", &Sampling::temperature);
  reader.number("top_p", &Sampling::top_p, 0.0);
  reader.number("top_k", &Sampling::top_k, -1.0);
  reader.number("min_p", &Sampling::min_p);
  reader.number("repetition_penalty", &Sampling::repetition_penalty, 0.0);
  reader.number("presence_penalty", &Sampling::presence_penalty);
  reader.number("frequency_penalty", &Sampling::frequency_penalty);
  if (const json* value = member(config, "eos_token_id")) {
    if (value->is_array())
      for (const json& id : *value) defaults.stop_ids.push_back(id_in(id, where));
    else
      defaults.stop_ids.push_back(id_in(*value, where));
  }
  return defaults;
}

void require_sound(const GenerationDefaults& defaults, std::span<const std::string_view> replaced) {
  for (const GenerationDefaults::Fault& fault : defaults.faults)
    if (std::find(replaced.begin(), replaced.end(), fault.key) == replaced.end())
      throw Error(ErrorKind::config, fault.message);
}

}  // namespace tqkv
