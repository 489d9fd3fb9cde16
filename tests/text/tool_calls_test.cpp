// Tool calls in the answers of Qwen3.5 and 3.6.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tqkv/chat.h"

namespace {

using namespace tqkv;
using nlohmann::json;

const std::string tools = R"([{"type": "function", "function": {"name": "weather", "parameters": {"properties": {
  "city": {"type": "string"}, "days": {"type": "integer"}, "exact": {"type": "boolean"}, "units": {"type": ["string", "null"]},
  "hours": {"type": "array"}, "place": {"type": "object"}, "limit": {"type": "number"},
  "near": {"anyOf": [{"type": "object"}, {"type": "null"}]}, "level": {"enum": [1, 2, "high"]}}}}}])";

std::string call(const std::string& name, const std::string& parameters) {
  return "<tool_call>\n<function=" + name + ">\n" + parameters + "</function>\n</tool_call>";
}

std::string parameter(const std::string& key, const std::string& value) {
  return "<parameter=" + key + ">\n" + value + "\n</parameter>\n";
}

TEST_CASE("a tool call is taken out of the answer with its name and arguments") {
  const ParsedAnswer parsed = parse_tool_calls(
      "I look it up.\n\n" + call("weather", parameter("city", "Oslo") + parameter("days", "3")) + "\n", tools);
  CHECK(parsed.content == "I look it up.");
  REQUIRE(parsed.calls.size() == 1);
  CHECK(parsed.calls[0].name == "weather");
  CHECK(parsed.calls[0].arguments == R"({"city":"Oslo","days":3})");
}

TEST_CASE("several tool calls stay in their order, and one may have no arguments") {
  const ParsedAnswer parsed = parse_tool_calls(call("first", "") + "\n" + call("second", parameter("a", "b")), "");
  CHECK(parsed.content.empty());
  REQUIRE(parsed.calls.size() == 2);
  CHECK(parsed.calls[0].name == "first");
  CHECK(parsed.calls[0].arguments == "{}");
  CHECK(parsed.calls[1].name == "second");
  CHECK(parsed.calls[1].arguments == R"({"a":"b"})");
}

TEST_CASE("arguments have the types that the tool declares, and are text where the value is none of them") {
  const auto argument = [](const std::string& key, const std::string& value, const std::string& given = tools) {
    const ParsedAnswer parsed = parse_tool_calls(call("weather", parameter(key, value)), given);
    REQUIRE(parsed.calls.size() == 1);
    return json::parse(parsed.calls[0].arguments).at(key);
  };
  CHECK(argument("city", "12") == "12");
  CHECK(argument("days", "12") == 12);
  CHECK(argument("days", "twelve") == "twelve");
  CHECK(argument("days", "1.5") == "1.5");
  CHECK(argument("limit", "1.5") == 1.5);
  CHECK(argument("exact", "True") == true);
  CHECK(argument("exact", "false") == false);
  CHECK(argument("units", "None").is_null());
  CHECK(argument("units", "metric") == "metric");
  CHECK(argument("hours", "[1, 2]") == json::array({1, 2}));
  CHECK(argument("place", R"({"lat": 59.9})") == json{{"lat", 59.9}});
  CHECK(argument("unknown", "12") == "12");
  CHECK(argument("near", R"({"lat": 1})") == json{{"lat", 1}});  // one of the alternatives
  CHECK(argument("near", "None").is_null());
  CHECK(argument("near", "12") == "12");
  CHECK(argument("level", "2") == 2);
  CHECK(argument("level", "high") == "high");
  const std::string references =
      R"([{"name":"weather","parameters":{"$defs":{"point":{"properties":{"x":{}}},"loop":{"$ref":"#/$defs/loop"}},
    "properties":{"at":{"$ref":"#/$defs/point"},"near":{"anyOf":[{"$ref":"#/$defs/point"},{"type":"null"}]},"loop":{"$ref":"#/$defs/loop"},
    "gone":{"$ref":"#/x"},"odd":{"$ref":"#x~"}}}}])";
  CHECK(argument("at", R"({"x": 1})", references) == json{{"x", 1}});
  CHECK(argument("near", R"({"x": 1})", references) == json{{"x", 1}});
  CHECK(argument("near", "null", references).is_null());
  for (const char* key : {"loop", "gone", "odd"}) CHECK(argument(key, "1", references) == "1");
  CHECK(argument("days", "12", "") == "12");
  const std::string deep(100000, '[');
  CHECK(argument("hours", deep + std::string(100000, ']')).is_string());
}

TEST_CASE("a value keeps its lines and may speak of tags itself") {
  const std::string code = "  if (a < b)\n\n    return \"</parameter>\";\n";
  const ParsedAnswer parsed = parse_tool_calls(call("write", parameter("text", code)), "");
  REQUIRE(parsed.calls.size() == 1);
  CHECK(json::parse(parsed.calls[0].arguments).at("text") == code);
}

TEST_CASE("what is no whole tool call stays in the answer") {
  for (const std::string text :
       {"<tool_call>", "see <tool_call> and </tool_call>", "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>",
        "<tool_call>\n<function=>\n</function>\n</tool_call>", "<tool_call>{\"name\": \"f\"}</tool_call>",
        "<tool_call>\n<function=f>\n<parameter=a>\n1\n</function>\n</tool_call>", "  plain, with its blanks \n"}) {
    CAPTURE(text);
    const ParsedAnswer parsed = parse_tool_calls(text, tools);
    CHECK(parsed.calls.empty());
    CHECK(parsed.content == text);
  }
  const ParsedAnswer both = parse_tool_calls("<tool_call> broken " + call("f", ""), tools);
  CHECK(both.content == "<tool_call> broken");
  REQUIRE(both.calls.size() == 1);
}

TEST_CASE("tools and answers that are no JSON or no UTF-8 do no harm") {
  for (const char* given : {"{", "[1, null, {\"name\": 3}]", "[{\"name\": \"f\", \"parameters\": []}]"})
    CHECK(parse_tool_calls(call("f", parameter("a", "1")), given).calls.size() == 1);
  const ParsedAnswer parsed = parse_tool_calls(call("f", parameter("a", "\xff")), "");
  REQUIRE(parsed.calls.size() == 1);
  CHECK(json::parse(parsed.calls[0].arguments).at("a") == "\xef\xbf\xbd");
}

}  // namespace
