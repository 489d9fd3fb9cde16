#include "server/protocol/fields.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "server/protocol/api_error.h"

namespace tqkv::server {
namespace {

std::string found(const Json& value) {
  if (value.is_array() && value.empty()) return "an empty one";
  return value.is_primitive() && !value.is_string() ? print(value) : std::string(kind_of(value));
}

}  // namespace

Fields::Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object())
    throw bad_request(
        where_, fmt::format("{} must be an object, not {}.", where_.empty() ? "The body" : where_, kind_of(object)));
}

std::string Fields::path(std::string_view name) const {
  return where_.empty() ? std::string(name) : fmt::format("{}.{}", where_, name);
}

void Fields::wrong(std::string_view name, std::string_view expected) const {
  const auto at = object_.find(name);
  const std::string field = path(name);
  if (at == object_.end() || at->is_null())
    throw bad_request(field, fmt::format("{} is missing: {}.", field, expected));
  throw bad_request(field, fmt::format("{} must be {}, not {}.", field, expected, found(*at)));
}

const Json* Fields::get(std::string_view name) {
  read_.emplace(name);
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

std::optional<double> Fields::number(std::string_view name, double least, double most) {
  const Json* value = get(name);
  if (!value) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(number >= least && number <= most)) wrong(name, fmt::format("a number from {} to {}", least, most));
  return number;
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t least, std::int64_t most) {
  const Json* value = get(name);
  if (!value) return std::nullopt;
  const std::optional<std::int64_t> number = whole(*value);
  if (!number || *number < least || *number > most) wrong(name, fmt::format("an integer from {} to {}", least, most));
  return number;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const Json* value = get(name);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) wrong(name, "true or false");
  return value->get<bool>();
}

std::optional<std::string> Fields::text(std::string_view name) {
  const Json* value = get(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong(name, "a string");
  return value->get<std::string>();
}

const Json* Fields::array(std::string_view name) {
  const Json* value = get(name);
  if (value && !value->is_array()) wrong(name, "an array");
  return value;
}

const Json* Fields::object(std::string_view name) {
  const Json* value = get(name);
  if (value && !value->is_object()) wrong(name, "an object");
  return value;
}

std::string Fields::required_text(std::string_view name) {
  std::optional<std::string> value = text(name);
  if (!value) wrong(name, "a string");
  return std::move(*value);
}

void Fields::refuse(std::initializer_list<std::string_view> names, std::string_view why) {
  for (const std::string_view name : names)
    if (get(name)) throw bad_request(path(name), fmt::format("{} is not supported: {}.", path(name), why));
}

void Fields::skip(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) read_.emplace(name);
}

std::vector<std::string> Fields::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items()) {
    if (names.size() == 20) break;
    if (!read_.contains(name)) names.push_back(path(shortened(name, 60)));
  }
  return names;
}

std::optional<std::int64_t> whole(const Json& value) {
  if (value.is_number_unsigned()) {
    const std::uint64_t number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  if (!(std::abs(number) <= 0x1p53) || number != std::floor(number)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

}  // namespace tqkv::server
