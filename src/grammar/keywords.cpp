// Keywords of a JSON Schema: which ones are known, and the values of the simple ones.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/printable.h"
#include "grammar/schema.h"
#include "tqkv/error.h"

namespace tqkv::grammar {
namespace {

constexpr int most_levels = 100;
constexpr std::uint32_t most_size = 1'000'000'000;

constexpr std::array known{"$ref",
                           "$defs",
                           "definitions",
                           "type",
                           "enum",
                           "const",
                           "properties",
                           "required",
                           "items",
                           "prefixItems",
                           "minItems",
                           "maxItems",
                           "anyOf",
                           "allOf",
                           "minLength",
                           "maxLength",
                           "minimum",
                           "maximum",
                           "title",
                           "description",
                           "default",
                           "examples",
                           "$schema",
                           "$id",
                           "$comment",
                           "additionalProperties",
                           "exclusiveMinimum",
                           "exclusiveMaximum",
                           "deprecated"};

/// Whether a bound is a number that a schema's writer can mean exactly.
double bound_value(const Json& value, const char* key, const std::string& place) {
  if (!value.is_number()) refuse(place, fmt::format("{} must be a number", key));
  return value.get<double>();
}

/// value times 10^places as an integer, rounded up or down; `beyond` says whether it must differ from the value itself.
std::int64_t scaled(const Json& value, int places, bool up, bool beyond, std::int64_t most) {
  const std::int64_t factor = places == 0 ? 1 : 1'000'000;
  std::int64_t result = 0;
  bool exact = false;
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(most / factor)) {
    return most + 1;
  } else if (value.is_number_integer()) {
    const auto integer = value.get<std::int64_t>();
    if (integer > most / factor) return most + 1;
    if (integer < -(most / factor)) return -most - 1;
    result = integer * factor;
    exact = true;
  } else {
    const long double product = static_cast<long double>(value.get<double>()) * static_cast<long double>(factor);
    if (product > static_cast<long double>(most)) return most + 1;
    if (product < -static_cast<long double>(most)) return -most - 1;
    // A decimal of at most 15 digits is the one that was written, though its double is not quite the same.
    const long double nearest = std::round(product);
    if (static_cast<double>(nearest / static_cast<long double>(factor)) == value.get<double>()) {
      result = static_cast<std::int64_t>(nearest);
      exact = true;
    } else {
      result = static_cast<std::int64_t>(up ? std::ceil(product) : std::floor(product));
    }
  }
  if (exact && beyond) result += up ? 1 : -1;
  return result;
}

}  // namespace

void refuse(const std::string& where, const std::string& message) {
  throw Error(ErrorKind::input, printable(fmt::format("{}: {}", where, message), Keep::nothing));
}

Json parse_document(std::string_view text, const std::string& what, std::size_t most_bytes) {
  if (text.size() > most_bytes)
    refuse(what, fmt::format("it has {} bytes, but at most {} are taken: shorten it", text.size(), most_bytes));
  bool too_deep = false;
  Json document;
  try {
    document = Json::parse(text, [&](int depth, Json::parse_event_t, Json&) {
      too_deep = too_deep || depth > most_levels;
      return !too_deep;
    });
  } catch (const Json::exception&) {
    refuse(what, "it is no JSON");
  }
  if (too_deep) refuse(what, fmt::format("it is nested deeper than {} levels", most_levels));
  return document;
}

void check_keywords(const Json& schema, const std::string& place) {
  for (const auto& [key, value] : schema.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    if (key == "uniqueItems" && value == false) continue;
    if (key == "format" || key == "pattern")
      refuse(place, fmt::format("the keyword \"{}\" is not known: leave it out, and check strings yourself", key));
    if (key == "oneOf") refuse(place, "the keyword \"oneOf\" is not known: use \"anyOf\"");
    refuse(place,
           fmt::format("the keyword \"{}\" is not known: docs/serving.md lists those that are", key.substr(0, 40)));
  }
}

std::uint32_t size_of(const Json& schema, const char* key, std::uint32_t otherwise, const std::string& place) {
  const auto found = schema.find(key);
  if (found == schema.end()) return otherwise;
  const double value = found->is_number() ? found->get<double>() : -1.0;
  if (!(value >= 0.0 && value <= most_size) || value != std::floor(value))
    refuse(place, fmt::format("{} must be an integer from 0 to {}", key, most_size));
  return static_cast<std::uint32_t>(value);
}

Bounds bounds_of(const Json& schema, bool integer, const std::string& place) {
  Bounds bounds;
  const int places = integer ? 0 : 6;
  const std::int64_t most = integer ? most_integer : most_scaled;
  bounds.range = {-most, most, places};
  const auto bound = [&](const char* key, bool low, bool beyond) {
    const auto found = schema.find(key);
    if (found == schema.end()) return;
    bound_value(*found, key, place);
    bounds.given = true;
    const std::int64_t value = scaled(*found, places, low, beyond, most);
    if (low)
      bounds.range.low = std::max(bounds.range.low, value);
    else
      bounds.range.high = std::min(bounds.range.high, value);
  };
  bound("minimum", true, false);
  bound("exclusiveMinimum", true, true);
  bound("maximum", false, false);
  bound("exclusiveMaximum", false, true);
  if (bounds.range.low > bounds.range.high)
    refuse(place, integer ? "no integer of at most 18 digits lies within these bounds"
                          : "no number of at most 9 digits before and 6 after the point lies within these bounds");
  return bounds;
}

std::string written(const Json& value, bool markup) {
  std::string text = value.dump();
  if (!markup) return text;
  for (std::size_t at = text.find("</"); at != std::string::npos; at = text.find("</", at)) text.insert(at + 1, "\\");
  return text;
}

std::string pointer_part(std::string_view key) {
  std::string part = "/";
  for (const char c : key.substr(0, 80)) {
    if (c == '~')
      part += "~0";
    else if (c == '/')
      part += "~1";
    else
      part += c;
  }
  return part;
}

}  // namespace tqkv::grammar
