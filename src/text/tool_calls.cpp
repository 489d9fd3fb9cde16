#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/utf8.h"
#include "tqkv/chat.h"

namespace tqkv {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view blanks = " \t\r\n";
constexpr int deepest = 200;  // levels of an argument

/// Reads one call from the front of a text; every step is false where something else stands.
class CallReader {
 public:
  explicit CallReader(std::string_view rest) : rest_(rest) {}
  std::string_view rest() const { return rest_; }

  bool take(std::string_view tag) {
    skip_blanks();
    if (!rest_.starts_with(tag)) return false;
    rest_.remove_prefix(tag.size());
    return true;
  }

  /// The name of <function=NAME> or <parameter=NAME>, of which the front was taken.
  bool take_name(std::string& name) {
    const std::size_t end = rest_.find_first_of(">\r\n<");
    if (end == std::string_view::npos || end == 0 || rest_[end] != '>') return false;
    name = std::string(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return true;
  }

  /// A value up to the </parameter> after which the call goes on as a call does: a value may speak of tags itself.
  bool take_value(std::string& value) {
    constexpr std::string_view closing = "</parameter>";
    for (std::size_t at = rest_.find(closing); at != std::string_view::npos; at = rest_.find(closing, at + 1)) {
      CallReader after(rest_.substr(at + closing.size()));
      after.skip_blanks();
      if (!after.rest_.starts_with("<parameter=") && !after.rest_.starts_with("</function>")) continue;
      std::string_view text = rest_.substr(0, at);
      if (text.starts_with('\n')) text.remove_prefix(1);
      if (text.ends_with('\n')) text.remove_suffix(1);
      value = std::string(text);
      rest_.remove_prefix(at + closing.size());
      return true;
    }
    return false;
  }

 private:
  void skip_blanks() { rest_.remove_prefix(std::min(rest_.find_first_not_of(blanks), rest_.size())); }
  std::string_view rest_;
};

std::string valid(std::string_view text) {
  std::string out;
  append_lossy(out, text);
  return out;
}

const json* member(const json* object, const char* key) {
  if (!object || !object->is_object()) return nullptr;
  const auto found = object->find(key);
  return found == object->end() ? nullptr : &*found;
}

/// The types that the schema of `tools` declares for a parameter; empty: none.
std::vector<std::string> declared_types(const json& tools, const std::string& function, const std::string& parameter) {
  std::vector<std::string> types;
  if (!tools.is_array()) return types;
  for (const json& tool : tools) {
    const json* wrapped = member(&tool, "function");
    const json* declared = wrapped ? wrapped : &tool;
    const json* name = member(declared, "name");
    if (!name || *name != function) continue;
    const json* type = member(member(member(member(declared, "parameters"), "properties"), parameter.c_str()), "type");
    if (!type) return types;
    for (const json& one : type->is_array() ? *type : json::array({*type}))
      if (one.is_string()) types.push_back(one.get<std::string>());
    return types;
  }
  return types;
}

bool is_type(const ordered_json& value, const std::string& type) {
  return (type == "integer" && value.is_number_integer()) || (type == "number" && value.is_number()) ||
         (type == "boolean" && value.is_boolean()) || (type == "null" && value.is_null()) ||
         (type == "array" && value.is_array()) || (type == "object" && value.is_object());
}

ordered_json value_of(const std::string& text, const std::vector<std::string>& types) {
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

std::optional<ParsedToolCall> read_call(CallReader& in, const json& tools) {
  std::string name;
  if (!in.take("<tool_call>") || !in.take("<function=") || !in.take_name(name)) return std::nullopt;
  ordered_json arguments = ordered_json::object();
  while (in.take("<parameter=")) {
    std::string key, value;
    if (!in.take_name(key) || !in.take_value(value)) return std::nullopt;
    arguments[valid(key)] = value_of(value, declared_types(tools, name, key));
  }
  if (!in.take("</function>") || !in.take("</tool_call>")) return std::nullopt;
  return ParsedToolCall{valid(name), arguments.dump()};
}

}  // namespace

ParsedAnswer parse_tool_calls(std::string_view answer, std::string_view tools) {
  constexpr std::string_view opening = "<tool_call>";
  const json declared = json::parse(tools, nullptr, false);
  ParsedAnswer parsed;
  while (true) {
    const std::size_t at = answer.find(opening);
    parsed.content += answer.substr(0, at);
    if (at == std::string_view::npos) break;
    answer.remove_prefix(at);
    CallReader in(answer);
    if (std::optional<ParsedToolCall> call = read_call(in, declared)) {
      parsed.calls.push_back(std::move(*call));
      answer = in.rest();
    } else {
      parsed.content += opening;
      answer.remove_prefix(opening.size());
    }
  }
  if (!parsed.calls.empty()) {
    parsed.content.erase(0, std::min(parsed.content.find_first_not_of(blanks), parsed.content.size()));
    parsed.content.erase(parsed.content.find_last_not_of(blanks) + 1);  // npos + 1 is 0
  }
  return parsed;
}

}  // namespace tqkv
