// What each keyword of a schema lets pass.
#include <doctest/doctest.h>

#include <string>

#include "grammar/accepts.h"
#include "tqkv/grammar.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

TEST_CASE("a JSON object is one, whatever is in it") {
  const Grammar object = Grammar::json_object();
  for (const char* text : {"{}", "{ }", "\n\n{\"a\": 1}", R"({"a":[1,2.5e-3,{"b":null}],"c":"d\n","e":true})",
                           "{\n  \"a\": [\n    1,\n    2\n  ]\n}", R"({"":"","ä":"ö😀","\u00e4b":"\ud83d\ude00"})"})
    CHECK_MESSAGE(accepts(object, text), text);
  for (const char* text : {"",
                           "[]",
                           "1",
                           "\"a\"",
                           "{",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{,}",
                           "{a:1}",
                           "{'a':1}",
                           "{\"a\":1}}",
                           "{\"a\":01}",
                           "{\"a\":1.}",
                           "{\"a\":.5}",
                           "{\"a\":+1}",
                           "{\"a\":tru}",
                           "{\"a\":NaN}",
                           "{} ",
                           "{\"a\":\"\n\"}",
                           "{\"a\":\"\\x\"}",
                           "{\"a\":\"\\ud83d\"}",
                           "{\"a\":\"\\ude00\"}",
                           "{\"a\":\"\\ud83d\\u0041\"}",
                           "{\"a\":\"\xc3\"}",
                           "{\"a\":\"\xc0\x80\"}",
                           "{\"a\":\"\xed\xa0\x80\"}",
                           "{\"a\":\"\xf5\x80\x80\x80\"}",
                           "{\"a\":[1 2]}",
                           "{\"a\":1 \"b\":2}"})
    CHECK_FALSE_MESSAGE(accepts(object, text), text);
}

TEST_CASE("no key comes twice, however it is written") {
  CHECK(accepts(Grammar::json_object(), R"({"a":1,"b":2,"ab":{"a":1}})"));
  CHECK_FALSE(accepts(Grammar::json_object(), R"({"a":1,"b":2,"a":3})"));
  CHECK_FALSE(accepts(Grammar::json_object(), R"({"a":1,"\u0061":3})"));
  CHECK_FALSE(accepts(Grammar::json_object(), R"({"😀":1,"\ud83d\ude00":3})"));
  const char* schema = R"({"properties":{"a":{"type":"integer"}},"additionalProperties":true})";
  CHECK(accepts(schema, R"({"a":1,"b":2})"));
  CHECK(accepts(schema, R"({"b":"x","c":2})"));
  CHECK_FALSE(accepts(schema, R"({"a":1,"a":2})"));
  CHECK_FALSE(accepts(schema, R"({"b":1,"a":"no integer"})"));
  CHECK_FALSE(accepts(schema, R"({"\u0061":"no integer"})"));
}

TEST_CASE("types are told apart") {
  struct Case {
    const char *type, *takes, *refuses;
  };
  for (const Case& one : {Case{"null", "null", "0"}, Case{"boolean", "false", "null"}, Case{"string", "\"a\"", "1"},
                          Case{"integer", "-12", "1.0"}, Case{"integer", "0", "-0"}, Case{"integer", "120", "1e2"},
                          Case{"number", "-1.5E+3", "\"1\""}, Case{"number", "0.25", "00"}, Case{"array", "[]", "{}"},
                          Case{"object", "{\"a\":[]}", "[]"}}) {
    const std::string schema = std::string(R"({"type":")") + one.type + "\"}";
    CHECK_MESSAGE(accepts(schema, one.takes), one.takes);
    CHECK_FALSE_MESSAGE(accepts(schema, one.refuses), one.refuses);
  }
  const char* either = R"({"type":["string","null","integer"],"maxLength":2,"minimum":5})";
  CHECK(accepts(either, "\"ab\""));
  CHECK(accepts(either, "null"));
  CHECK(accepts(either, "5"));
  CHECK_FALSE(accepts(either, "4"));
  CHECK_FALSE(accepts(either, "\"abc\""));
  CHECK_FALSE(accepts(either, "true"));
  for (const char* text : {"1", "\"a\"", "[1,[2]]", "{\"a\":{}}", "true", "null"}) {
    CHECK(accepts("{}", text));
    CHECK(accepts("true", text));
  }
}

TEST_CASE("properties come in their order, and those that are required come") {
  const char* schema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{"type":"null"},"d":{}},
                          "required":["b","d"],"additionalProperties":false})";
  for (const char* text : {R"({"a":1,"b":"x","c":null,"d":2})", R"({"b":"x","d":[]})", R"({"a":1,"b":"x","d":{}})"})
    CHECK_MESSAGE(accepts(schema, text), text);
  for (const char* text :
       {R"({})", R"({"a":1})", R"({"b":"x"})", R"({"d":1})", R"({"b":"x","a":1,"d":1})", R"({"b":1,"d":1})",
        R"({"b":"x","d":1,"e":1})", R"({"b":"x","d":1,})", R"({"b":"x","c":null})"})
    CHECK_FALSE_MESSAGE(accepts(schema, text), text);
  CHECK(accepts(R"({"required":["x"]})", R"({"x":1,"y":2})"));
  CHECK_FALSE(accepts(R"({"required":["x"]})", R"({"y":2})"));
  const char* closed = R"({"properties":{"ab":{},"abc":{},"\"\\":{}}})";
  CHECK(accepts(closed, R"({"ab":1,"abc":2,"\"\\":3})"));
  CHECK(accepts(closed, R"({"abc":2})"));
  CHECK_FALSE(accepts(closed, R"({"a":2})"));
  const char* typed = R"({"type":"object","additionalProperties":{"type":"integer"}})";
  CHECK(accepts(typed, R"({"a":1,"b":2})"));
  CHECK_FALSE(accepts(typed, R"({"a":"x"})"));
}

TEST_CASE("enum and const are their values and nothing else") {
  const char* schema = R"({"enum":["a","ab",1,12,true,null,1.5,2.0,[1,{"k":"v"}],{"x":[]}]})";
  for (const char* text :
       {"\"a\"", "\"ab\"", "1", "12", "true", "null", "1.5", "2", R"([1, {"k":"v"}])", R"({"x":[]})"})
    CHECK_MESSAGE(accepts(schema, text), text);
  for (const char* text : {"\"b\"", "\"abc\"", "2.0", "123", "false", "[1]", "[1,{}]", "{}", "[]"})
    CHECK_FALSE_MESSAGE(accepts(schema, text), text);
  CHECK(accepts(R"({"const":{"a":1,"b":[true]}})", R"({"a": 1, "b": [true]})"));
  CHECK_FALSE(accepts(R"({"const":{"a":1}})", R"({"a":1,"b":1})"));
  CHECK_FALSE(accepts(R"({"type":"string","enum":["a",1]})", "1"));
  CHECK(accepts(R"({"type":["integer","null"],"enum":["a",1,null]})", "null"));
}

TEST_CASE("integers keep their bounds to the last digit") {
  struct Case {
    const char* bounds;
    int low, high;
  };
  for (const Case& one :
       {Case{R"("minimum":-15,"maximum":7)", -15, 7}, Case{R"("minimum":0,"maximum":0)", 0, 0},
        Case{R"("exclusiveMinimum":98,"exclusiveMaximum":1002)", 99, 1001},
        Case{R"("minimum":0.5,"maximum":2.5)", 1, 2}, Case{R"("maximum":-95,"minimum":-120.0)", -120, -95},
        Case{R"("minimum":120,"maximum":129)", 120, 129}}) {
    const std::string schema = std::string(R"({"type":"integer",)") + one.bounds + "}";
    for (int value = -1200; value <= 1200; ++value)
      if (accepts(schema, std::to_string(value)) != (value >= one.low && value <= one.high))
        FAIL(schema << " " << value);
  }
  CHECK(accepts(R"({"type":"integer","minimum":5})", "999999999999999999"));
  CHECK_FALSE(accepts(R"({"type":"integer"})", "1000000000000000000"));
  CHECK(accepts(R"({"type":"integer","maximum":-999999999999999999})", "-999999999999999999"));
  CHECK_FALSE(begins(R"({"type":"integer","minimum":0})", "-"));
}

TEST_CASE("numbers keep their bounds too") {
  const char* share = R"({"type":"number","minimum":0,"maximum":1})";
  for (const char* text : {"0", "1", "0.5", "1.000000", "0.0", "0.999999"}) CHECK_MESSAGE(accepts(share, text), text);
  for (const char* text : {"-1", "-0.1", "1.1", "2", "1.000001", "1e0", "0.1234567", "0."})
    CHECK_FALSE_MESSAGE(accepts(share, text), text);
  const char* open = R"({"type":"number","exclusiveMinimum":-0.1,"exclusiveMaximum":0.25})";
  for (const char* text : {"-0.099999", "0", "0.249999", "-0.01"}) CHECK_MESSAGE(accepts(open, text), text);
  for (const char* text : {"-0.1", "-0.10", "0.25", "-0", "-0.0", "0.3", "1"})
    CHECK_FALSE_MESSAGE(accepts(open, text), text);
  CHECK(accepts(R"({"type":"number","minimum":1e-9})", "0.000001"));
  CHECK_FALSE(accepts(R"({"type":"number","minimum":1e-9})", "0"));
}

TEST_CASE("lengths of strings are characters") {
  const char* schema = R"({"type":"string","minLength":2,"maxLength":3})";
  for (const char* text : {"\"ab\"", "\"abc\"", "\"äöü\"", "\"😀😀\"", R"("\ud83d\ude00\n")", R"("\u00e4\"")"})
    CHECK_MESSAGE(accepts(schema, text), text);
  for (const char* text : {"\"\"", "\"a\"", "\"abcd\"", "\"😀\"", R"("\ud83d\ude00")", "\"äöüß\""})
    CHECK_FALSE_MESSAGE(accepts(schema, text), text);
  CHECK_FALSE(begins(schema, "\"abcd"));
  CHECK_FALSE(begins(schema, "\"abc\\"));
}

TEST_CASE("arrays have their items, and as many as they may") {
  const char* schema = R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})";
  for (const char* text : {"[1]", "[1,2]", "[1, 2, 3]", "[ 1 , 2 ]"}) CHECK_MESSAGE(accepts(schema, text), text);
  for (const char* text : {"[]", "[1,2,3,4]", "[\"a\"]", "[1,]", "[,1]"})
    CHECK_FALSE_MESSAGE(accepts(schema, text), text);
  CHECK_FALSE(begins(schema, "[1,2,3,"));
  const char* pair = R"({"prefixItems":[{"type":"string"},{"type":"integer"}],"items":false})";
  for (const char* text : {"[\"a\",1]", "[\"a\"]", "[]"}) CHECK_MESSAGE(accepts(pair, text), text);
  CHECK_FALSE(accepts(pair, "[\"a\",1,2]"));
  CHECK_FALSE(accepts(pair, "[1]"));
  CHECK(accepts(R"({"prefixItems":[{"type":"string"}],"items":{"type":"null"},"minItems":2})", "[\"a\",null,null]"));
  CHECK_FALSE(accepts(R"({"maxItems":0})", "[1]"));
}

TEST_CASE("anyOf takes each of its parts, also where they begin alike") {
  const char* schema =
      R"({"anyOf":[{"properties":{"kind":{"const":"dot"},"x":{"type":"integer"}},"required":["kind","x"]},
    {"properties":{"kind":{"const":"line"},"x":{"type":"string"}},"required":["kind","x"]},{"type":"null"}]})";
  CHECK(accepts(schema, R"({"kind":"dot","x":1})"));
  CHECK(accepts(schema, R"({"kind":"line","x":"1"})"));
  CHECK(accepts(schema, "null"));
  CHECK_FALSE(accepts(schema, R"({"kind":"dot","x":"1"})"));
  CHECK_FALSE(accepts(schema, R"({"kind":"line","x":1})"));
  CHECK(accepts(R"({"allOf":[{"type":"integer"}],"title":"t"})", "1"));
  CHECK_FALSE(accepts(R"({"allOf":[{"type":"integer"}]})", "null"));
}

TEST_CASE("alternatives that multiply with each level are followed as far as their bound, and still end") {
  const char* schema =
      R"({"anyOf":[{"properties":{"a":{"$ref":"#"}},"additionalProperties":false},{"properties":{"a":{"$ref":"#"},"b":{}}},
    {"properties":{"a":{"$ref":"#"},"c":{}}},{"type":"null"}]})";
  std::string open, close;
  for (int i = 0; i < 60; ++i) {
    open += R"({"a":)";
    close += "}";
  }
  CHECK(accepts(schema, open + "null" + close));
  CHECK_FALSE(accepts(schema, open + "true" + close));
}

TEST_CASE("references lead into the schema, also back") {
  const char* tree =
      R"({"$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#/$defs/node"}},
    "required":["v"]}},"$ref":"#/$defs/node"})";
  CHECK(accepts(tree, R"({"v":1,"next":{"v":2,"next":{"v":3}}})"));
  CHECK_FALSE(accepts(tree, R"({"v":1,"next":{"next":{"v":3}}})"));
  CHECK(accepts(R"({"anyOf":[{"type":"integer"},{"type":"array","items":{"$ref":"#"}}]})", "[[1,[]],2]"));
  CHECK(accepts(R"({"definitions":{"a/b~":{"const":1}},"properties":{"x":{"$ref":"#/definitions/a~1b~0"}}})",
                R"({"x":1})"));
}

TEST_CASE("texts cannot run on in blanks, digits or levels") {
  CHECK_FALSE(begins("{}", " "));
  CHECK_FALSE(begins("{}", "\n\n\n"));
  CHECK(begins("{}", "[1 "));
  CHECK(begins("{}", "[1\n" + std::string(32, ' ')));
  CHECK(begins("{}", "[\n\t\t1"));
  for (const std::string& blanks :
       {std::string("  "), std::string(" \n"), std::string("\n\n"), "\n" + std::string(33, ' '), std::string("\t")})
    CHECK_FALSE_MESSAGE(begins("{}", "[1" + blanks), blanks);
  CHECK(accepts("{}", std::string(64, '[') + std::string(64, ']')));
  CHECK_FALSE(begins("{}", std::string(65, '[')));
  CHECK_FALSE(begins("{}", "1234567890123456"));
  CHECK_FALSE(begins("{}", "1e123"));
  // What an inner object needs is still there where the outer ones stop.
  const char* tree =
      R"({"type":"object","properties":{"next":{"$ref":"#"},"end":{"type":"array","items":{"type":"array"}}},"required":["end"]})";
  std::string open;
  while (begins(tree, open + R"({"next":)")) open += R"({"next":)";
  CHECK(open.size() == 62 * 8);
  CHECK(begins(tree, open + R"({"end":[]})"));
  CHECK_FALSE(begins(tree, open + R"({"end":[[)"));
}

TEST_CASE("what is whole can end, and ends where nothing may follow") {
  Matcher matcher(Grammar::json_schema(R"({"type":"integer","maximum":99})"));
  CHECK_FALSE(matcher.can_end());
  REQUIRE(matcher.advance("5"));
  CHECK(matcher.can_end());
  CHECK_FALSE(matcher.must_end());
  const Matcher copy = matcher;
  CHECK_FALSE(matcher.advance("x"));
  REQUIRE(matcher.advance("7"));
  CHECK(matcher.must_end());
  CHECK_FALSE(copy.must_end());
  CHECK_FALSE(matcher.advance("1"));
  CHECK(matcher.can_end());
  CHECK_FALSE(matcher.advance(" "));
}

}  // namespace
