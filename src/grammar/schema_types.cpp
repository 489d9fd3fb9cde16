// Schemas with types: strings, numbers, objects and arrays.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "grammar/schema.h"

namespace tqkv::grammar {

std::set<std::string> types_of(const Json& schema, const std::string& place) {
  std::set<std::string> types;
  if (const auto type = schema.find("type"); type != schema.end()) {
    for (const Json& one : type->is_array() ? *type : Json::array({*type})) {
      const std::string name = one.is_string() ? one.get<std::string>() : "";
      if (name != "null" && name != "boolean" && name != "integer" && name != "number" && name != "string" &&
          name != "array" && name != "object")
        refuse(place, "\"type\" must be a type of JSON Schema, or a list of them");
      types.insert(name);
    }
    if (types.empty()) refuse(place, "\"type\" is an empty list: no value matches");
    return types;
  }
  const auto any_of = [&](std::initializer_list<const char*> keys) {
    return std::any_of(keys.begin(), keys.end(), [&](const char* key) { return schema.contains(key); });
  };
  if (any_of({"properties", "required", "additionalProperties"})) types.insert("object");
  if (any_of({"items", "prefixItems", "minItems", "maxItems"})) types.insert("array");
  if (any_of({"minLength", "maxLength"})) types.insert("string");
  if (any_of({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) types.insert("number");
  return types;
}

void SchemaCompiler::typed(const Due& due) {
  std::set<std::string> types = types_of(*due.schema, place(due.where));
  if (types.empty()) {
    at(due.node).options = {any()};
    return;
  }
  if (types.count("number") != 0) types.erase("integer");
  std::vector<std::uint32_t> options;
  std::vector<const char*> words;
  for (const std::string& type : types) {
    if (type == "null") words.push_back("null");
    if (type == "boolean") words.insert(words.end(), {"true", "false"});
    if (type == "string") options.push_back(string(due));
    if (type == "integer" || type == "number") options.push_back(number(due, type == "integer"));
    if (type == "object") options.push_back(object(due));
    if (type == "array") options.push_back(array(due));
  }
  if (!words.empty()) {
    options.push_back(add(NodeKind::literals, due.where));
    std::uint32_t index = 0;
    for (const char* word : words) at(options.back()).trie.add(word, index++);
  }
  at(due.node).options = std::move(options);
}

std::uint32_t SchemaCompiler::string(const Due& due) {
  const std::uint32_t node = add(NodeKind::string, due.where);
  at(node).least = size_of(*due.schema, "minLength", 0, place(due.where));
  at(node).most = size_of(*due.schema, "maxLength", unbounded, place(due.where));
  if (at(node).least > at(node).most) refuse(place(due.where), "minLength is above maxLength: no value matches");
  return node;
}

std::uint32_t SchemaCompiler::number(const Due& due, bool integer) {
  const Bounds bounds = bounds_of(*due.schema, integer, place(due.where));
  if (!integer && !bounds.given) return add(NodeKind::number, due.where);
  const std::uint32_t node = add(NodeKind::range, due.where);
  at(node).range = bounds.range;
  return node;
}

std::uint32_t SchemaCompiler::object(const Due& due) {
  const Json& schema = *due.schema;
  const std::string here = place(due.where);
  const std::uint32_t node = add(NodeKind::object, due.where);
  std::vector<Property> properties;
  std::map<std::string, std::size_t, std::less<>> places;
  if (const auto declared = schema.find("properties"); declared != schema.end()) {
    if (!declared->is_object()) refuse(here, "\"properties\" must be an object");
    for (const auto& [key, value] : declared->items()) {
      places.emplace(key, properties.size());
      properties.push_back({key, node_of(value, due.where + "/properties" + pointer_part(key)), false, 0});
    }
  }
  std::uint32_t extra = no_node;
  const auto additional = schema.find("additionalProperties");
  if (additional != schema.end() && *additional != false)
    extra = node_of(*additional, due.where + "/additionalProperties");
  else if (additional == schema.end() && !schema.contains("properties"))
    extra = any();
  if (const auto required = schema.find("required"); required != schema.end()) {
    if (!required->is_array()) refuse(here, "\"required\" must be a list of keys");
    for (const Json& key : *required) {
      if (!key.is_string()) refuse(here, "\"required\" must be a list of keys");
      const auto name = key.get<std::string>();
      const auto [found, is_new] = places.try_emplace(name, properties.size());
      if (is_new && additional != schema.end() && *additional == false)
        refuse(here, fmt::format("\"{}\" is required, but not declared: no value matches", name.substr(0, 40)));
      if (is_new) properties.push_back({name, extra != no_node ? extra : any(), false, 0});
      properties[found->second].required = true;
    }
  }
  at(node).properties = std::move(properties);
  at(node).extra = extra;
  return node;
}

std::uint32_t SchemaCompiler::array(const Due& due) {
  const Json& schema = *due.schema;
  const std::string here = place(due.where);
  const std::uint32_t node = add(NodeKind::array, due.where);
  std::vector<std::uint32_t> prefix;
  if (const auto first = schema.find("prefixItems"); first != schema.end()) {
    if (!first->is_array()) refuse(here, "\"prefixItems\" must be a list of schemas");
    for (std::size_t i = 0; i < first->size(); ++i)
      prefix.push_back(node_of((*first)[i], fmt::format("{}/prefixItems/{}", due.where, i)));
  }
  const auto items = schema.find("items");
  if (items != schema.end() && items->is_array()) refuse(here, "\"items\" as a list is not known: use \"prefixItems\"");
  const bool none = items != schema.end() && *items == false;
  const std::uint32_t rest = none ? no_node : items == schema.end() ? any() : node_of(*items, due.where + "/items");
  Node& own = at(node);
  own.items = rest;
  own.least = size_of(schema, "minItems", 0, here);
  own.most = size_of(schema, "maxItems", unbounded, here);
  if (none) own.most = std::min(own.most, static_cast<std::uint32_t>(prefix.size()));
  own.prefix = std::move(prefix);
  if (own.least > own.most) refuse(here, "minItems is above the most items that there can be: no value matches");
  return node;
}

}  // namespace tqkv::grammar
