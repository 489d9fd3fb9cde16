// Calls of tools in Qwen's markup.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "grammar/accepts.h"
#include "tqkv/chat.h"
#include "tqkv/grammar.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

const std::string tools =
    R"([{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{
  "city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":14},"unit":{"type":"string","enum":["C","C/F"]},
  "hours":{"type":"array","items":{"type":"string"}},"note":{"type":["string","null"]}},"required":["city"]}}},
  {"type":"function","function":{"name":"stop"}},
  {"type":"function","function":{"name":"stop_all","parameters":{"type":"object","properties":{"now":{"type":"boolean"}},"required":["now"]}}}])";

std::string call(const std::string& name, const std::string& parameters = "") {
  return "<tool_call>\n<function=" + name + ">\n" + parameters + "</function>\n</tool_call>";
}
std::string parameter(const std::string& key, const std::string& value) {
  return "<parameter=" + key + ">\n" + value + "\n</parameter>\n";
}

TEST_CASE("a tool is called with its parameters, in the order of their declaration") {
  const Grammar grammar = Grammar::tool_calls(tools);
  const std::string city = parameter("city", "Oslo");
  for (const std::string& text :
       {call("weather", city), call("stop"), "\n\n" + call("stop"), call("stop_all", parameter("now", "true")),
        call("weather",
             city + parameter("days", "14") + parameter("unit", "C/F") + parameter("hours", R"(["a", "b"])")),
        call("weather", city + parameter("note", "null")), call("weather", parameter("city", "")),
        call("weather", parameter("city", "two\nlines, \"quotes\" \\ and </param> <b>tags</b>\n"))})
    CHECK_MESSAGE(accepts(grammar, text), text);
  for (const std::string& text :
       {std::string("text"), call("weather"), call("other"), call("stop", city),
        call("weather", parameter("days", "1")), call("weather", parameter("days", "1") + city),
        call("weather", city + city), call("weather", city + parameter("days", "15")),
        call("weather", city + parameter("days", "two")), call("weather", city + parameter("unit", "F")),
        call("weather", city + parameter("unit", " C")), call("weather", city + parameter("more", "1")),
        call("stop_all", parameter("now", "True")),
        call("weather", parameter("city", "a</parameter>\n<parameter=days>")),
        call("weather", parameter("city", "\xff")),
        call("weather", city + parameter("hours", R"(["</parameter></function>"])"))})
    CHECK_FALSE_MESSAGE(accepts(grammar, text), text);
  CHECK(accepts(grammar, call("weather", city + parameter("hours", R"(["<\/parameter>", "<"])"))));
}

TEST_CASE("several calls may come where they are parallel, and one tool alone where it is named") {
  CHECK(accepts(Grammar::tool_calls(tools), call("stop") + "\n" + call("stop")));
  CHECK(accepts(Grammar::tool_calls(tools), call("stop") + "\n"));
  CHECK_FALSE(accepts(Grammar::tool_calls(tools), call("stop") + call("stop")));
  CHECK_FALSE(accepts(Grammar::tool_calls(tools), call("stop") + "\n\n"));
  Matcher one(Grammar::tool_calls(tools, {}, false));
  REQUIRE(one.advance(call("stop")));
  CHECK(one.must_end());
  const Grammar named = Grammar::tool_calls(tools, "stop");
  CHECK(accepts(named, call("stop")));
  CHECK_FALSE(accepts(named, call("stop_all", parameter("now", "true"))));
  std::string many = call("stop");
  for (int i = 1; i < 64; ++i) many += "\n" + call("stop");
  CHECK(accepts(Grammar::tool_calls(tools), many));
  CHECK_FALSE(accepts(Grammar::tool_calls(tools), many + "\n"));
}

TEST_CASE("lengths of a text hold, and its end is always there") {
  const Grammar grammar = Grammar::tool_calls(
      R"([{"name":"f","parameters":{"properties":{"a":{"type":"string","minLength":2,"maxLength":3}}}}])");
  for (const char* value : {"ab", "abc", "äö", "\n\n\n", "<\n<", "a\n"})
    CHECK_MESSAGE(accepts(grammar, call("f", parameter("a", value))), value);
  for (const char* value : {"", "a", "abcd", "äöüß", "\n\n\n\n", "\n"})
    CHECK_FALSE_MESSAGE(accepts(grammar, call("f", parameter("a", value))), value);
  Matcher matcher(grammar);
  CHECK(matcher.advance("<tool_call>\n<function=f>\n<parameter=a>\nabc"));
  CHECK_FALSE(matcher.advance("<"));
  CHECK_FALSE(matcher.advance("\n\n"));
  CHECK(matcher.advance("\n"));
  CHECK_FALSE(matcher.advance("x"));
}

TEST_CASE("what a call says is what is read from it") {
  const std::string text =
      call("weather", parameter("city", "</param>\n") + parameter("days", "3") + parameter("unit", "C/F") +
                          parameter("hours", R"(["<\/parameter><\/function>"])") + parameter("note", "null"));
  REQUIRE(accepts(Grammar::tool_calls(tools), text));
  const ParsedAnswer parsed = parse_tool_calls(text, tools);
  REQUIRE(parsed.calls.size() == 1);
  CHECK(nlohmann::json::parse(parsed.calls[0].arguments) ==
        nlohmann::json::parse(
            R"({"city":"</param>\n","days":3,"unit":"C/F","hours":["</parameter></function>"],"note":null})"));
}

TEST_CASE("tools that cannot be called so are refused") {
  const auto refused = [](std::string_view given, std::optional<std::string_view> name = {}) {
    try {
      Grammar::tool_calls(given, name);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::input;
    }
    return false;
  };
  for (const char* given :
       {"", "{}", "[]", "[1]", "[{}]", R"([{"name":1}])", R"([{"name":""}])", R"([{"name":"a>b"}])",
        R"([{"name":"a\nb"}])", R"([{"name":"a"},{"name":"a"}])", R"([{"name":"a","parameters":{"type":"array"}}])",
        R"([{"name":"a","parameters":{"properties":{"x>":{}}}}])",
        R"([{"name":"a","parameters":{"properties":{"x":{"pattern":"a"}}}}])",
        R"([{"name":"a","parameters":{"properties":{"x":{"enum":["</parameter>"]}}}}])",
        R"([{"name":"a","parameters":{"properties":{"x":{"type":["string","integer"],"minimum":1}}}}])",
        R"([{"name":"a","parameters":{"properties":{"x":{"type":["string","array"],"items":{"type":"null"}}}}}])"})
    CHECK_MESSAGE(refused(given), given);
  for (const char* schema : {R"({"anyOf":[{"type":"string"},{"type":"integer","minimum":1}]})", R"({"enum":[1,"2"]})"})
    CHECK_MESSAGE(refused(R"([{"name":"a","parameters":{"properties":{"x":)" + std::string(schema) + "}}}]"), schema);
  CHECK(refused(tools, "other"));
  CHECK_FALSE(refused(R"([{"name":"a","parameters":{"properties":{"x":{"type":["string","integer","array"]}}}}])"));
  CHECK_FALSE(refused(R"([{"name":"a","parameters":null},{"name":"b","parameters":{}}])"));
}

}  // namespace
