#include "grammar/schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "tqkv/error.h"

namespace tqkv::grammar {
namespace {

constexpr std::size_t most_nodes = 16384;

constexpr std::array annotations{"title", "description", "default", "examples",    "$schema",
                                 "$id",   "$comment",    "$defs",   "definitions", "deprecated"};

/// Throws Error(input) when something that restricts values stands next to `keyword`.
void require_alone(const Json& schema, std::string_view keyword, const std::string& place, bool type_too = false) {
  for (const auto& [key, value] : schema.items()) {
    if (key == keyword || (type_too && key == "type")) continue;
    if (std::find(annotations.begin(), annotations.end(), key) == annotations.end())
      refuse(place, fmt::format("\"{}\" next to \"{}\" is not known: only titles and descriptions may stand there", key,
                                keyword));
  }
}

bool is_integral(const Json& value) {
  return value.is_number_integer() ||
         (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()));
}

bool is_type(const Json& value, const std::set<std::string>& types) {
  return types.count(value.is_null()      ? "null"
                     : value.is_boolean() ? "boolean"
                     : value.is_string()  ? "string"
                     : value.is_array()   ? "array"
                     : value.is_object()  ? "object"
                                          : "number") != 0 ||
         (is_integral(value) && types.count("integer") != 0);
}

}  // namespace

SchemaCompiler::SchemaCompiler(Grammar::Impl& grammar, const Json& document, std::string what)
    : grammar_(grammar), document_(document), what_(std::move(what)) {}

std::string SchemaCompiler::place(const std::string& where) const {
  constexpr std::size_t longest = 300;  // bytes: a place is shown, and deep ones need not be shown whole
  return fmt::format("{}: #{}{}", what_, where.substr(0, longest), where.size() > longest ? "…" : "");
}

std::uint32_t SchemaCompiler::add(NodeKind kind, const std::string& where) {
  if (grammar_.nodes.size() >= most_nodes) refuse(place(where), "the schema has too many parts: shorten it");
  grammar_.nodes.emplace_back();
  grammar_.nodes.back().kind = kind;
  grammar_.nodes.back().where = place(where);
  return static_cast<std::uint32_t>(grammar_.nodes.size() - 1);
}

std::uint32_t SchemaCompiler::node_of(const Json& schema, const std::string& where) {
  const auto [found, is_new] = nodes_.try_emplace(&schema, 0);
  if (is_new) {
    found->second = add(NodeKind::alternatives, where);
    due_.push_back({&schema, found->second, where});
  }
  return found->second;
}

void SchemaCompiler::compile() {
  for (; !due_.empty(); due_.pop_front()) fill(due_.front());
}

void SchemaCompiler::fill(const Due& due) {
  const Json& schema = *due.schema;
  const std::string here = place(due.where);
  if (schema.is_boolean()) {
    if (!schema.get<bool>()) refuse(here, "the schema is false: no value matches");
    at(due.node).options = {any()};
    return;
  }
  if (!schema.is_object()) refuse(here, "a schema must be an object, true or false");
  check_keywords(schema, here);
  if (const auto target = schema.find("$ref"); target != schema.end()) {
    require_alone(schema, "$ref", here);
    if (!target->is_string()) refuse(here, "\"$ref\" must be a text");
    return reference(due, target->get<std::string>());
  }
  for (const char* key : {"anyOf", "allOf"}) {
    const auto parts = schema.find(key);
    if (parts == schema.end()) continue;
    require_alone(schema, key, here);
    if (!parts->is_array() || parts->empty()) refuse(here, fmt::format("\"{}\" must be a list of schemas", key));
    if (parts->size() > most_alternatives)
      refuse(here, fmt::format("\"{}\" has {} parts, at most {} are taken", key, parts->size(), most_alternatives));
    if (*key == 'a' && key[1] == 'l' && parts->size() > 1)
      refuse(here, "\"allOf\" with several parts is not known: write what they come to as one schema");
    for (std::size_t i = 0; i < parts->size(); ++i) {
      const std::uint32_t part = node_of((*parts)[i], fmt::format("{}/{}/{}", due.where, key, i));
      at(due.node).options.push_back(part);
    }
    return;
  }
  if (const auto values = schema.find("enum"); values != schema.end()) {
    require_alone(schema, "enum", here, true);
    if (!values->is_array() || values->empty()) refuse(here, "\"enum\" must be a list of values");
    return literals(due, *values);
  }
  if (const auto value = schema.find("const"); value != schema.end()) {
    require_alone(schema, "const", here, true);
    return literals(due, Json::array({*value}));
  }
  typed(due);
}

/// A place in this document: "#", or "#/" and a JSON pointer.
void SchemaCompiler::reference(const Due& due, const std::string& target) {
  const std::string here = place(due.where);
  if (target != "#" && !target.starts_with("#/"))
    refuse(here, "\"$ref\" leads out of the schema: only places in it are known, such as #/$defs/name");
  const Json* found = &document_;
  std::string where;
  for (std::size_t begin = 1; begin < target.size();) {
    const std::size_t end = std::min(target.find('/', begin + 1), target.size());
    std::string key;
    for (std::size_t i = begin + 1; i < end; ++i) {
      if (target[i] == '%') refuse(here, "\"$ref\" with % is not known: write the characters");
      const bool escaped = target[i] == '~' && i + 1 < end && (target[i + 1] == '0' || target[i + 1] == '1');
      key += !escaped ? target[i] : target[i + 1] == '0' ? '~' : '/';
      i += escaped;
    }
    const Json* next = nullptr;
    if (found->is_object()) {
      if (const auto member = found->find(key); member != found->end()) next = &*member;
    } else if (found->is_array() && !key.empty() && key.size() < 6 &&
               key.find_first_not_of("0123456789") == std::string::npos && std::stoul(key) < found->size()) {
      next = &(*found)[std::stoul(key)];
    }
    if (!next) refuse(here, fmt::format("\"$ref\" leads to {}, which is not there", target.substr(0, 80)));
    found = next;
    where += pointer_part(key);
    begin = end;
  }
  const std::uint32_t node = node_of(*found, where);
  at(due.node).options = {node};
}

std::uint32_t SchemaCompiler::any() {
  if (any_ != no_node) return any_;
  const std::uint32_t node = any_ = add(NodeKind::alternatives, "");
  const std::uint32_t words = add(NodeKind::literals, "");
  std::uint32_t index = 0;
  for (const char* word : {"true", "false", "null"}) at(words).trie.add(word, index++);
  const std::uint32_t text = add(NodeKind::string, ""), figure = add(NodeKind::number, "");
  const std::uint32_t object = free_container(NodeKind::object), array = free_container(NodeKind::array);
  at(node).options = {words, text, figure, object, array};
  return node;
}

std::uint32_t SchemaCompiler::free_container(NodeKind kind) {
  const std::uint32_t node = add(kind, "");
  (kind == NodeKind::object ? at(node).extra : at(node).items) = any();
  return node;
}

/// Scalars become one trie; arrays and objects, nodes of their own.
void SchemaCompiler::literals(const Due& due, const Json& values) {
  std::set<std::string> types;
  if (due.schema->contains("type")) types = types_of(*due.schema, place(due.where));
  std::set<std::string> scalars;
  std::vector<std::uint32_t> options;
  const std::uint32_t node = add(NodeKind::literals, due.where);
  for (const Json& value : values) {
    if (!types.empty() && !is_type(value, types)) continue;
    if (value.is_structured()) {
      options.push_back(literal(value, due.where));
      continue;
    }
    Json own = value;
    if (value.is_number_float() && is_integral(value)) {
      if (std::abs(value.get<double>()) >= 9.2e18) refuse(place(due.where), "a value is too large a number");
      own = static_cast<std::int64_t>(value.get<double>());
    }
    if (scalars.insert(written(own, grammar_.markup)).second && own.is_string())
      at(node).strings.push_back(own.get<std::string>());
  }
  std::uint32_t index = 0;
  for (const std::string& scalar : scalars) at(node).trie.add(scalar, index++);
  if (!scalars.empty()) options.push_back(node);
  if (options.empty()) refuse(place(due.where), "none of the values is of the type");
  if (options.size() > most_alternatives)
    refuse(place(due.where), fmt::format("more than {} values are arrays or objects", most_alternatives));
  at(due.node).options = std::move(options);
}

/// The node of one value: its parts are in the same document, as schemas that are never read as such.
std::uint32_t SchemaCompiler::literal(const Json& value, const std::string& where) {
  if (value.is_object()) {
    const std::uint32_t node = add(NodeKind::object, where);
    for (const auto& [key, part] : value.items()) {
      const std::uint32_t own = literal(part, where);
      at(node).properties.push_back({key, own, true, 0});
    }
    return node;
  }
  if (value.is_array()) {
    const std::uint32_t node = add(NodeKind::array, where);
    for (const Json& part : value) {
      const std::uint32_t own = literal(part, where);
      at(node).prefix.push_back(own);
    }
    at(node).least = at(node).most = static_cast<std::uint32_t>(value.size());
    return node;
  }
  const std::uint32_t node = add(NodeKind::alternatives, where);
  literals({&value, node, where}, Json::array({value}));
  return node;
}

}  // namespace tqkv::grammar
