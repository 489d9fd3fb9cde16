#include "text/tool_values.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "base/utf8.h"

namespace tqkv::text {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view blanks = " \t\r\n";
constexpr int deepest = 200;  // levels of an argument

const json* member(const json* object, std::string_view key) {
  if (!object || !object->is_object()) return nullptr;
  const auto found = object->find(std::string(key));
  return found == object->end() ? nullptr : &*found;
}

const char* type_of(const json& value) {
  if (value.is_number_integer()) return "integer";
  if (value.is_number()) return "number";
  if (value.is_boolean()) return "boolean";
  if (value.is_null()) return "null";
  return value.is_array() ? "array" : value.is_object() ? "object" : "string";
}

/// The types of a schema and of what it leads to inside `document`.
class TypeFinder {
 public:
  explicit TypeFinder(const json& document) : document_(document) {}

  void add(const json& schema) {
    if (!schema.is_object() || ++looked_ > most_schemas) return;
    if (const json* type = member(&schema, "type")) {
      for (const json& one : type->is_array() ? *type : json::array({*type}))
        if (one.is_string()) types_.push_back(one.get<std::string>());
      return;
    }
    if (const json* target = member(&schema, "$ref"); target && target->is_string()) add_target(*target);
    for (const char* key : {"anyOf", "oneOf", "allOf"})
      if (const json* schemas = member(&schema, key); schemas && schemas->is_array())
        for (const json& one : *schemas) add(one);
    if (const json* values = member(&schema, "enum"); values && values->is_array())
      for (const json& value : *values) types_.emplace_back(type_of(value));
    if (const json* value = member(&schema, "const")) types_.emplace_back(type_of(*value));
    // Without a type, keywords say which values they are meant for.
    const auto implies = [&](const char* type, std::initializer_list<const char*> keys) {
      if (std::any_of(keys.begin(), keys.end(), [&](const char* key) { return schema.contains(key); }))
        types_.emplace_back(type);
    };
    implies("object", {"properties", "required", "additionalProperties"});
    implies("array", {"items", "prefixItems", "minItems", "maxItems"});
    implies("string", {"minLength", "maxLength", "pattern", "format"});
    implies("number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"});
  }
  std::vector<std::string> take() { return std::move(types_); }

 private:
  static constexpr int most_schemas = 256;  // references may lead back

  void add_target(const std::string& target) {
    if (!target.starts_with("#")) return;
    try {
      const json::json_pointer place(target.substr(1));
      if (document_.contains(place)) add(document_.at(place));
    } catch (const json::exception&) {  // no place in it
    }
  }

  const json& document_;
  std::vector<std::string> types_;
  int looked_ = 0;
};

bool is_type(const ordered_json& value, const std::string& type) {
  return (type == "integer" && value.is_number_integer()) || (type == "number" && value.is_number()) ||
         (type == "boolean" && value.is_boolean()) || (type == "null" && value.is_null()) ||
         (type == "array" && value.is_array()) || (type == "object" && value.is_object());
}

}  // namespace

std::string valid(std::string_view text) {
  std::string out;
  append_lossy(out, text);
  return out;
}

std::vector<std::string> declared_types(const json& tools, std::string_view function, std::string_view parameter) {
  std::vector<std::string> types;
  if (!tools.is_array()) return types;
  for (const json& tool : tools) {
    const json* wrapped = member(&tool, "function");
    const json* declared = wrapped ? wrapped : &tool;
    const json* name = member(declared, "name");
    if (!name || *name != function) continue;
    const json* parameters = member(declared, "parameters");
    const json* schema = member(member(parameters, "properties"), parameter);
    if (!schema) return types;
    TypeFinder finder(*parameters);
    finder.add(*schema);
    return finder.take();
  }
  return types;
}

bool always_string(const std::vector<std::string>& types) {
  return std::none_of(types.begin(), types.end(), [](const std::string& type) {
    return type == "integer" || type == "number" || type == "boolean" || type == "null" || type == "array" ||
           type == "object";
  });
}

ordered_json argument_value(std::string_view text, const std::vector<std::string>& types) {
  if (always_string(types)) return valid(text);
  std::string literal(text.substr(std::min(text.find_first_not_of(blanks), text.size())));
  literal.erase(literal.find_last_not_of(blanks) + 1);               // npos + 1 is 0
  if (literal == "True" || literal == "False" || literal == "None")  // 3.5 was shown scalars as Python prints them
    literal = literal == "True" ? "true" : literal == "False" ? "false" : "null";
  bool too_deep = false;  // to be printed again
  ordered_json parsed = ordered_json::parse(
      literal,
      [&](int depth, ordered_json::parse_event_t, ordered_json&) {
        too_deep = too_deep || depth > deepest;
        return true;
      },
      false);
  if (!parsed.is_discarded() && !too_deep)
    for (const std::string& type : types)
      if (is_type(parsed, type)) return parsed;
  return valid(text);
}

}  // namespace tqkv::text
