// Masks of a vocabulary: they are what the automaton says of each token alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "grammar/accepts.h"
#include "grammar/bundled.h"
#include "grammar/random_schemas.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

std::vector<bool> one_by_one(const Matcher& matcher, int size, const std::vector<int>& stop_ids) {
  std::vector<bool> mask(static_cast<std::size_t>(size));
  for (int id = 0; id < size; ++id) {
    const std::string_view text = vocabulary().text(id);
    mask[static_cast<std::size_t>(id)] = !text.empty() && Matcher(matcher).advance(text);
  }
  for (const int id : stop_ids) mask[static_cast<std::size_t>(id)] = matcher.can_end();
  return mask;
}

const char* const person =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":40},"note":{"type":"string"},
  "age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"enum":["red","green","blue"]}}},
  "required":["name","age"],"additionalProperties":{"type":"number"}})";
const char* const tools = R"([{"name":"find","parameters":{"type":"object","properties":{"text":{"type":"string"},
  "many":{"type":"array","items":{"type":"string"}}},"required":["text"]}}])";

TEST_CASE("a mask allows the tokens that the automaton takes, and ends only where the text is whole") {
  const int size = vocabulary().size();
  const std::vector<int> stops = model().stop_ids();
  REQUIRE_FALSE(stops.empty());
  struct Case {
    Grammar grammar;
    std::string text;
  };
  std::vector<Case> cases;
  for (const char* text :
       {"", "{", "{\"", "{\"name\":", "{\"name\": \"", "{\"name\": \"Ada", "{\"name\": \"\\", "{\"name\":\"\\ud83d",
        "{\"name\":\"\xc3", "{\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "{\"name\":\"a\",\"note\":\"",
        "{\"name\":\"a\",\"age\":1", "{\"name\":\"a\",\"age\":15", "{\"name\":\"a\",\"age\":1,\"tags\":[\"",
        "{\"name\":\"a\",\"age\":1,\"x", "{\"name\":\"a\",\"age\":1,\"x\":1,\"x", "{\"name\":\"a\",\"age\":1}"})
    cases.push_back({Grammar::json_schema(person), text});
  for (const char* text : {"", "[1,", "[\"", "{\"a\":1", "1", "[[[{\"a\":\""})
    cases.push_back({Grammar::json_schema("{}"), text});
  for (const char* text :
       {"", "<tool", "<tool_call>\n<function=find>\n", "<tool_call>\n<function=find>\n<parameter=text>\nab",
        "<tool_call>\n<function=find>\n<parameter=text>\nab\n", "<tool_call>\n<function=find>\n<parameter=text>\nab<",
        "<tool_call>\n<function=find>\n<parameter=text>\nab\n\n",
        "<tool_call>\n<function=find>\n<parameter=text>\n\n</parameter>\n<parameter=many>\n[\"<",
        "<tool_call>\n<function=find>\n<parameter=text>\n\n</parameter>\n</function>\n</tool_call>"})
    cases.push_back({Grammar::tool_calls(tools), text});
  TokenMasks own(vocabulary(), size, stops);
  for (const Case& one : cases) {
    CAPTURE(one.text);
    Matcher matcher(one.grammar);
    REQUIRE(matcher.advance(one.text));
    TokenMasks masks(vocabulary(), size, stops);
    const std::vector<bool> expected = one_by_one(matcher, size, stops);
    CHECK((masks.allowed(matcher) == expected));
    CHECK((masks.allowed(matcher) == expected));  // kept
    CHECK(std::find(expected.begin(), expected.end(), true) != expected.end());
  }
}

TEST_CASE("masks that are kept are those of the place, whatever came before") {
  const int size = vocabulary().size();
  Chance chance(7);
  for (const char* schema : {person, "{}", R"({"type":"string","minLength":3,"maxLength":12})"}) {
    TokenMasks masks(vocabulary(), size, {});
    const Grammar grammar = Grammar::json_schema(schema);
    for (int i = 0; i < 12; ++i) {
      const std::string text = walk(Matcher(grammar), chance, 60);
      Matcher matcher(grammar);
      for (std::size_t at = 0; at < text.size(); at += 1 + chance() % 9) {
        Matcher there(grammar);
        REQUIRE(there.advance(std::string_view(text).substr(0, at)));
        CHECK((masks.allowed(there) == one_by_one(there, size, {})));
      }
    }
  }
}

TEST_CASE("a vocabulary without a token for each byte is refused") {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  CHECK(Vocabulary(tokens).size() == 256);
  tokens['q'] = "qq";
  CHECK_THROWS_WITH_AS(Vocabulary{tokens}, doctest::Contains("0x71"), Error);
}

TEST_CASE("control tokens are no text") {
  for (const char* control : {"<|im_end|>", "<think>", "</think>"})
    if (const auto id = model().tokenizer().control_id(control)) CHECK(vocabulary().text(*id).empty());
}

}  // namespace
