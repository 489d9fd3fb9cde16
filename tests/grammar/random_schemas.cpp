#include "grammar/random_schemas.h"

#include <algorithm>
#include <set>
#include <vector>

#include "base/utf8.h"

namespace tqkv::test {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

int below(Chance& chance, int count) {
  return static_cast<int>(chance() % static_cast<unsigned>(count));
}

std::string word(Chance& chance) {
  static const std::vector<std::string> words{"a",   "ab",   "name", "größe", "x y", "\"q\"",
                                              "k/1", "日本", "\n",   "😀",     "",    "</b>"};
  return words[static_cast<std::size_t>(below(chance, static_cast<int>(words.size())))];
}

ordered_json scalar(Chance& chance) {
  switch (below(chance, 6)) {
    case 0:
      return nullptr;
    case 1:
      return below(chance, 2) == 0;
    case 2:
      return below(chance, 400) - 200;
    case 3:
      return (below(chance, 400) - 200) / 8.0;
    default:
      return word(chance);
  }
}

ordered_json literal(Chance& chance) {
  switch (below(chance, 8)) {
    case 0:
      return ordered_json::array({scalar(chance), scalar(chance)});
    case 1:
      return ordered_json::object({{word(chance), scalar(chance)}, {"other", ordered_json::array()}});
    default:
      return scalar(chance);
  }
}

ordered_json schema_of(Chance& chance, int depth);

ordered_json number(Chance& chance, bool integer) {
  ordered_json schema{{"type", integer ? "integer" : "number"}};
  const int low = below(chance, 4000) - 2000, width = below(chance, 3000) + 2;
  const double scale = integer || below(chance, 2) == 0 ? 1.0 : 100.0;
  if (below(chance, 2) == 0) schema[below(chance, 2) == 0 ? "minimum" : "exclusiveMinimum"] = low / scale;
  if (below(chance, 2) == 0) schema[below(chance, 2) == 0 ? "maximum" : "exclusiveMaximum"] = (low + width) / scale;
  return schema;
}

ordered_json array(Chance& chance, int depth) {
  ordered_json schema{{"type", "array"}};
  const int least = below(chance, 3);
  if (below(chance, 3) > 0) schema["items"] = schema_of(chance, depth - 1);
  if (below(chance, 4) == 0) schema["prefixItems"] = {schema_of(chance, depth - 1), schema_of(chance, depth - 1)};
  if (below(chance, 2) == 0) schema["minItems"] = least;
  if (below(chance, 2) == 0) schema["maxItems"] = least + below(chance, 3);
  return schema;
}

ordered_json object(Chance& chance, int depth) {
  ordered_json schema{{"type", "object"}};
  ordered_json properties = ordered_json::object(), required = ordered_json::array();
  for (int i = below(chance, 5); i > 0; --i) {
    const std::string key = word(chance);
    if (properties.contains(key)) continue;
    properties[key] = schema_of(chance, depth - 1);
    if (below(chance, 2) == 0) required.push_back(key);
  }
  if (!properties.empty() || below(chance, 2) == 0) schema["properties"] = properties;
  if (!required.empty()) schema["required"] = required;
  const int extra = below(chance, 4);
  if (extra == 0) schema["additionalProperties"] = schema_of(chance, depth - 1);
  if (extra == 1) schema["additionalProperties"] = false;
  if (extra == 2) schema["additionalProperties"] = true;
  return schema;
}

ordered_json schema_of(Chance& chance, int depth) {
  switch (below(chance, depth > 0 ? 12 : 7)) {
    case 0:
      return {{"enum", {literal(chance), literal(chance), literal(chance)}}};
    case 1:
      return {{"const", literal(chance)}};
    case 2: {
      const int least = below(chance, 4);
      ordered_json schema{{"type", "string"}};
      if (below(chance, 2) == 0) schema["minLength"] = least;
      if (below(chance, 2) == 0) schema["maxLength"] = least + below(chance, 6);
      return schema;
    }
    case 3:
      return number(chance, true);
    case 4:
      return number(chance, false);
    case 5:
      return {{"type", {"boolean", "null", "string"}}};
    case 6:
      return {{"$ref", below(chance, 2) == 0 ? "#/$defs/one" : "#/$defs/two"}};
    case 7:
      return array(chance, depth);
    case 8:
      return {{"anyOf", {schema_of(chance, depth - 1), schema_of(chance, depth - 1), schema_of(chance, depth - 1)}}};
    case 9:
      return below(chance, 3) == 0 ? ordered_json::object() : object(chance, depth);
    default:
      return object(chance, depth);
  }
}

bool any_of(const json& schemas, const json& root, const json& value) {
  return std::any_of(schemas.begin(), schemas.end(), [&](const json& schema) { return valid(root, schema, value); });
}

bool is_type(const json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  return type == "array" ? value.is_array() : value.is_object();
}

int characters(const std::string& text) {
  int count = 0;
  for (std::size_t at = 0; at < text.size(); at += next_character(text, at).length) ++count;
  return count;
}

}  // namespace

ordered_json random_schema(Chance& chance) {
  ordered_json schema = schema_of(chance, 3);
  schema["$defs"] = {{"one", schema_of(chance, 2)}, {"two", schema_of(chance, 2)}};
  return schema;
}

bool valid(const json& root, const json& schema, const json& value) {
  if (schema.is_boolean()) return schema.get<bool>();
  for (const auto& [key, own] : schema.items()) {
    if (key == "$ref" && !valid(root, root.at(json::json_pointer(own.get<std::string>().substr(1))), value))
      return false;
    if (key == "anyOf" && !any_of(own, root, value)) return false;
    if (key == "enum" && std::find(own.begin(), own.end(), value) == own.end()) return false;
    if (key == "const" && value != own) return false;
    if (key == "type") {
      const json types = own.is_array() ? own : json::array({own});
      if (std::none_of(types.begin(), types.end(), [&](const json& type) { return is_type(value, type); }))
        return false;
    }
    if (value.is_string()) {
      if (key == "minLength" && characters(value) < own) return false;
      if (key == "maxLength" && characters(value) > own) return false;
    }
    if (value.is_number()) {
      if (key == "minimum" && value.get<double>() < own) return false;
      if (key == "maximum" && value.get<double>() > own) return false;
      if (key == "exclusiveMinimum" && value.get<double>() <= own) return false;
      if (key == "exclusiveMaximum" && value.get<double>() >= own) return false;
    }
    if (value.is_array()) {
      const std::size_t first = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
      if (key == "minItems" && value.size() < own) return false;
      if (key == "maxItems" && value.size() > own) return false;
      for (std::size_t i = 0; i < value.size(); ++i) {
        if (key == "prefixItems" && i < first && !valid(root, own[i], value[i])) return false;
        if (key == "items" && i >= first && !valid(root, own, value[i])) return false;
      }
    }
    if (value.is_object()) {
      if (key == "required" &&
          std::any_of(own.begin(), own.end(), [&](const json& name) { return !value.contains(name); }))
        return false;
      for (const auto& [name, part] : value.items()) {
        const bool declared = schema.contains("properties") && schema["properties"].contains(name);
        if (key == "properties" && declared && !valid(root, own[name], part)) return false;
        if (key == "additionalProperties" && !declared && !valid(root, own, part)) return false;
      }
    }
  }
  return true;
}

std::string walk(Matcher matcher, Chance& chance, int random_bytes, std::string text) {
  // What closes comes first, then what is short, then the rest.
  static const std::string closing = "\"}]>,:0123456789.ntfrualseo n/-<\n{[pmc=";
  const auto go = [&](int byte) {
    const char one = static_cast<char>(byte);
    if (!matcher.advance({&one, 1})) return false;
    text += one;
    return true;
  };
  for (int done = 0; done < random_bytes + 20000; ++done) {
    const bool random = done < random_bytes;
    if (matcher.can_end() && (!random || below(chance, 3) == 0 || matcher.must_end())) return text;
    static const std::string tag = "\n</parameter>";  // of a text that could continue
    if (!random && matcher.advance(tag)) text += tag;
    bool moved = false;
    for (int tries = 0; random && !moved && tries < 6; ++tries)
      moved = go(below(chance, 3) > 0
                     ? static_cast<unsigned char>(
                           closing[static_cast<std::size_t>(below(chance, static_cast<int>(closing.size())))])
                     : below(chance, 256));
    for (std::size_t i = 0; !moved && i < closing.size(); ++i) moved = go(static_cast<unsigned char>(closing[i]));
    for (int byte = 0; !moved && byte < 256; ++byte) moved = go(byte);
    if (!moved && !matcher.can_end()) return {};
  }
  return {};
}

bool parses_once(const std::string& text, json& value) {
  bool once = true;
  std::vector<std::set<std::string>> keys;
  const json::parser_callback_t look = [&](int, json::parse_event_t event, json& part) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) once = keys.back().insert(part.get<std::string>()).second && once;
    return true;
  };
  value = json::parse(text, look, false);
  return once && !value.is_discarded();
}

}  // namespace tqkv::test
