// Whatever bytes an automaton lets pass, they can be led to an end, and the end is a value of the schema.
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <nlohmann/json.hpp>
#include <string>

#include "grammar/accepts.h"
#include "grammar/random_schemas.h"
#include "tqkv/chat.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;
using nlohmann::json;

int taken = 0, refused = 0;

TEST_CASE("every walk ends in a value of its schema") {
  const bool held = rc::check("walks end in values", [](unsigned seed) {
    Chance chance(seed);
    const nlohmann::ordered_json schema = random_schema(chance);
    const std::string text = schema.dump();
    if (!refusal(text).empty()) {
      ++refused;
      return;
    }
    ++taken;
    for (const int random_bytes : {0, 40, 400}) {
      const std::string value = walk(Matcher(Grammar::json_schema(text)), chance, random_bytes);
      json parsed;
      if (value.empty() || !parses_once(value, parsed) || !valid(schema, schema, parsed)) RC_FAIL(text + "\n" + value);
    }
  });
  CHECK(held);
  CHECK(taken > refused);
}

TEST_CASE("every walk through a tool's markup is one call, with arguments of its parameters' schema") {
  const bool held = rc::check("walks are calls", [](unsigned seed) {
    Chance chance(seed);
    nlohmann::ordered_json properties = nlohmann::ordered_json::object(), required = nlohmann::ordered_json::array();
    for (int i = 0; i < 4; ++i) {
      const std::string name = "p" + std::to_string(i);
      const int kind = static_cast<int>(chance() % 9);
      properties[name] =
          kind == 0   ? nlohmann::ordered_json{{"type", "string"}, {"minLength", 1}, {"maxLength", 9}}
          : kind == 1 ? nlohmann::ordered_json{{"type", "integer"}, {"minimum", -3}, {"maximum", 120}}
          : kind == 2 ? nlohmann::ordered_json{{"type", "array"}, {"items", {{"type", "string"}}}}
          : kind == 3 ? nlohmann::ordered_json{{"type", "string"}, {"enum", {"a", "a\nb", "</x>"}}}
          : kind == 4 ? nlohmann::ordered_json{{"$ref", "#/$defs/point"}}
          : kind == 5 ? nlohmann::ordered_json{{"anyOf", {{{"$ref", "#/$defs/point"}}, {{"type", "null"}}}}}
          : kind == 6 ? nlohmann::ordered_json{{"enum", {1, true, {1, "a"}}}}
          : kind == 7 ? nlohmann::ordered_json{{"type", {"string", "integer", "null"}}}
                      : nlohmann::ordered_json{{"type", "object"}, {"properties", {{"k", {{"type", "boolean"}}}}}};
      if (chance() % 2 == 0) required.push_back(name);
    }
    const nlohmann::ordered_json parameters{{"type", "object"},
                                            {"properties", properties},
                                            {"required", required},
                                            {"$defs", {{"point", {{"properties", {{"x", {{"type", "number"}}}}}}}}}};
    const std::string tools = nlohmann::ordered_json::array({{{"name", "f"}, {"parameters", parameters}}}).dump();
    const std::string text = walk(Matcher(Grammar::tool_calls(tools, {}, false)), chance, 300);
    const ParsedAnswer parsed = parse_tool_calls(text, tools);
    if (parsed.calls.size() != 1 || !parsed.content.empty() ||
        !valid(parameters, parameters, json::parse(parsed.calls[0].arguments)))
      RC_FAIL(tools + "\n" + text);
  });
  CHECK(held);
}

}  // namespace
