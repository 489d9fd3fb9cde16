#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "text/tool_values.h"
#include "tqkv/chat.h"

namespace tqkv {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using text::valid;

constexpr std::string_view blanks = " \t\r\n";

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

std::optional<ParsedToolCall> read_call(CallReader& in, const json& tools) {
  std::string name;
  if (!in.take("<tool_call>") || !in.take("<function=") || !in.take_name(name)) return std::nullopt;
  ordered_json arguments = ordered_json::object();
  while (in.take("<parameter=")) {
    std::string key, value;
    if (!in.take_name(key) || !in.take_value(value)) return std::nullopt;
    arguments[valid(key)] = text::argument_value(value, text::declared_types(tools, name, key));
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
