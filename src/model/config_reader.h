// One object of config.json, read key by key. A key whose value is null counts as absent.
#pragma once
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv {

/// The longest context that a config may ask for, in tokens.
inline constexpr int most_context = 1 << 24;

class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  const nlohmann::json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  const nlohmann::json& need(const char* key) const {
    if (const nlohmann::json* value = find(key)) return *value;
    fail(fmt::format("{} is missing", key));
  }
  int integer(const char* key, int least, int most) const { return checked_integer(need(key), key, least, most); }
  int integer_or(const char* key, int least, int most, int fallback) const {
    const nlohmann::json* value = find(key);
    return value ? checked_integer(*value, key, least, most) : fallback;
  }
  double number(const nlohmann::json& value, const char* key) const {
    if (!value.is_number()) fail(fmt::format("{} is {}, expected a number", key, shown(value.dump())));
    return value.get<double>();
  }
  bool boolean_or(const char* key, bool fallback) const {
    const nlohmann::json* value = find(key);
    if (!value) return fallback;
    if (!value->is_boolean()) fail(fmt::format("{} is {}, expected true or false", key, shown(value->dump())));
    return value->get<bool>();
  }
  std::string string_or(const char* key, const char* fallback) const {
    const nlohmann::json* value = find(key);
    if (!value) return fallback;
    if (!value->is_string()) fail(fmt::format("{} is {}, expected a string", key, shown(value->dump())));
    return value->get<std::string>();
  }
  int checked_integer(const nlohmann::json& value, const char* key, int least, int most) const {
    // A number beyond 64 bits is a double in nlohmann's eyes and is refused with the fractions.
    const bool integral = value.is_number_unsigned() || value.is_number_integer();
    const bool fits = integral &&
                      (!value.is_number_unsigned() || value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most)) &&
                      value.get<std::int64_t>() >= least && value.get<std::int64_t>() <= most;
    if (!fits) fail(fmt::format("{} is {}, expected an integer from {} to {}", key, shown(value.dump()), least, most));
    return value.get<int>();
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::config, fmt::format("{}: {}", where_, what));
  }
  const nlohmann::json& object() const { return object_; }
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace tqkv
