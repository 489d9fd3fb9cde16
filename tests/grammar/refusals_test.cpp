// Schemas that are refused, and what is said of them.
#include <doctest/doctest.h>

#include <string>

#include "base/utf8.h"
#include "grammar/accepts.h"

namespace {

using namespace tqkv::test;

bool says(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

TEST_CASE("a keyword that is not known is named with its place") {
  CHECK(says(refusal(R"({"properties":{"a/b":{"type":"string","pattern":"x"}}})"),
             "schema: #/properties/a~1b: the keyword \"pattern\""));
  CHECK(says(refusal(R"({"items":{"format":"date"}})"), "#/items: the keyword \"format\""));
  CHECK(says(refusal(R"({"oneOf":[{"type":"null"}]})"), "use \"anyOf\""));
  for (const char* keyword :
       {"not", "if", "patternProperties", "multipleOf", "contains", "dependentRequired", "minProperties",
        "propertyNames", "$anchor", "$dynamicRef", "unevaluatedProperties", "constt"})
    CHECK_MESSAGE(says(refusal(std::string("{\"anyOf\":[{}, {\"") + keyword + "\":1}]}"),
                       std::string("#/anyOf/1: the keyword \"") + keyword),
                  keyword);
  CHECK(says(refusal(R"({"uniqueItems":true})"), "uniqueItems"));
  CHECK(refusal(R"({"uniqueItems":false,"type":"array"})").empty());
}

TEST_CASE("a schema that no value matches is refused") {
  for (const char* schema :
       {"false", R"({"type":"integer","minimum":2,"maximum":1})", R"({"type":"integer","minimum":0.1,"maximum":0.9})",
        R"({"minLength":2,"maxLength":1})", R"({"minItems":2,"maxItems":1})",
        R"({"prefixItems":[{}],"items":false,"minItems":2})", R"({"enum":[]})", R"({"type":"string","enum":[1]})",
        R"({"required":["a"],"additionalProperties":false})", R"({"type":[]})",
        R"({"type":"integer","exclusiveMinimum":1,"exclusiveMaximum":2})", R"({"type":"integer","minimum":1e30})"})
    CHECK_MESSAGE(!refusal(schema).empty(), schema);
}

TEST_CASE("a schema whose values never end is refused") {
  CHECK(says(refusal(R"({"$ref":"#"})"), "leads back to itself"));
  CHECK(says(refusal(R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})"), "leads back to itself"));
  CHECK(says(refusal(R"({"properties":{"a":{"$ref":"#"}},"required":["a"]})"), "no value ends"));
  CHECK(says(refusal(R"({"type":"array","items":{"$ref":"#"},"minItems":1})"), "no value ends"));
  CHECK(says(refusal(R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})"),
             "leads back"));
  CHECK(refusal(R"({"type":"array","items":{"$ref":"#"}})").empty());
}

TEST_CASE("what is no schema is refused") {
  for (const char* schema : {"",
                             "{",
                             "1",
                             "[]",
                             "null",
                             R"({"type":"text"})",
                             R"({"type":1})",
                             R"({"properties":[]})",
                             R"({"required":"a"})",
                             R"({"required":[1]})",
                             R"({"minLength":-1})",
                             R"({"minLength":1.5})",
                             R"({"maxItems":"1"})",
                             R"({"maxItems":1e300})",
                             R"({"minimum":"1"})",
                             R"({"exclusiveMinimum":true})",
                             R"({"anyOf":[]})",
                             R"({"anyOf":{}})",
                             R"({"allOf":[{},{}]})",
                             R"({"enum":1})",
                             R"({"$ref":1})",
                             R"({"$ref":"http://a/b"})",
                             R"({"$ref":"#/x"})",
                             R"({"$ref":"#x"})",
                             R"({"items":[{}]})",
                             R"({"prefixItems":{}})",
                             R"({"anyOf":[{}],"type":"string"})",
                             R"({"$ref":"#/$defs/a","maxLength":1,"$defs":{"a":{}}})",
                             R"({"enum":[1],"minimum":1})",
                             R"({"properties":{"a":1}})",
                             "{\"const\":\"\xff\"}",
                             R"({"const":123456789012345678901234567890})",
                             R"({"const":1e999})"})
    CHECK_MESSAGE(!refusal(schema).empty(), schema);
}

TEST_CASE("an error is one line of UTF-8, whatever the schema says") {
  const std::string long_key = std::string(39, 'k') + "ä" + std::string(100, 'k');
  CHECK(says(refusal("{\"" + long_key + "\":1}"), std::string(39, 'k')));
  for (const std::string& schema :
       {"{\"" + long_key + "\":1}", "{\"properties\":{\"" + std::string(79, 'k') + "ä\\n\\u0000\":1}}",
        std::string(R"({"a\nb\u001b[1m":1})")}) {
    const std::string message = refusal(schema);
    CHECK_FALSE(message.empty());
    CHECK(tqkv::valid_utf8(message));
    CHECK(message.find_first_of("\n\x1b") == std::string::npos);
    CHECK(message.size() < 500);
  }
}

TEST_CASE("a schema has bounds itself") {
  CHECK(says(refusal(std::string(70000, ' ')), "65536"));
  std::string deep = "{}";
  for (int i = 0; i < 120; ++i) deep = R"({"items":)" + deep + "}";
  CHECK(says(refusal(deep), "100 levels"));
  std::string wide = R"({"anyOf":[)";
  for (int i = 0; i < 65; ++i) wide += R"({"const":[)" + std::to_string(i) + "]},";
  wide.back() = ']';
  CHECK(says(refusal(wide + "}"), "65"));
}

}  // namespace
