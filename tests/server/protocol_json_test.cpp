// Bodies that are no JSON, or more of it than is read.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "server/protocol/fields.h"
#include "server/protocol/json.h"
#include "server/protocol/request.h"
#include "server/refused.h"

namespace {

using namespace tqkv::server;

std::string refusal(const std::string& body) {
  return refused([](std::string_view text) { parse_json(text); }, body);
}

std::string nested(int levels) {
  const auto count = static_cast<std::size_t>(levels);
  return std::string(count, '[') + std::string(count, ']');
}

TEST_CASE("what is no JSON is refused in a short line") {
  for (const std::string body : {"", " ", "{", "{\"a\":}", "[1,]", "nul", "{\"a\":NaN}", "{\"a\":Infinity}",
                                 "{\"a\":-Infinity}", "{'a':1}", "{\"a\":01}", "{\"a\":1}}", "// a\n{}", "\"\\ud800\"",
                                 "\"\\udc00 \"", "\"\\ud800\\u0041\"", "\"a\nb\"", "\"\\x\"", "{\"a\":1e400}"}) {
    CAPTURE(body);
    const std::string said = refusal(body);
    CHECK_MESSAGE(said.starts_with(": The body cannot be read as JSON: "), said);
    CHECK(said.size() < 400);
  }
  CHECK(refusal("[" + std::string(1 << 20, 'x') + "]").size() < 400);
  CHECK(refusal("\"" + std::string(1 << 20, 'x')).size() < 1000);
}

TEST_CASE("what is no UTF-8 is refused with its place") {
  CHECK(refusal("{\"a\": \"\xff\"}") == ": The body is not UTF-8: line 1, column 8: byte 0xff is invalid UTF-8.");
  CHECK(refusal("{\"a\": \"\xed\xa0\x80\"}").starts_with(": The body is not UTF-8: "));  // half a pair
  CHECK(refusal("{\"a\": \"\xc3").starts_with(": The body is not UTF-8: "));
}

TEST_CASE("a member that comes twice is refused, wherever it is") {
  CHECK(refusal(R"({"a":1,"a":1})") == ": The body cannot be read as JSON: 'a' comes twice in one object.");
  CHECK(refusal(R"({"b":[{"a":1,"c":{"a":2},"a":1}]})").find("'a' comes twice") != std::string::npos);
  CHECK(refusal(R"({"a":{"a":1},"b":{"a":1}})") == "accepted");
}

TEST_CASE("levels and values are bounded") {
  CHECK(refusal(nested(deepest_json)) == "accepted");
  CHECK(refusal(nested(deepest_json + 1)).find("nested deeper than 100 levels") != std::string::npos);
  CHECK(refusal(std::string(1 << 22, '[')).find("nested deeper than 100 levels") != std::string::npos);
  std::string many = "[0";
  for (int i = 2; i < most_json_values; ++i) many += ",0";
  CHECK(refusal(many + "]") == "accepted");
  CHECK(refusal(many + ",0]").find("more than 1000000 values") != std::string::npos);
}

TEST_CASE("many members take no square of their number") {
  std::string body = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"logit_bias\":{";
  for (int i = 0; i < 300000; ++i) body += (i ? ",\"" : "\"") + std::to_string(i) + "\":1";
  CHECK(parse_chat(body + "}}").logit_bias.size() == 300000);
  std::string fields = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]";
  for (int i = 0; i < 300000; ++i) fields += ",\"f" + std::to_string(i) + "\":1";
  CHECK(parse_chat(fields + "}").ignored.size() == 20);
}

TEST_CASE("members keep their order, and a byte that is zero is text") {
  CHECK(print(parse_json(R"({"b":1,"a":[true,null,-1,1.5,"\u0000\ud83c\udf24"]})")) ==
        "{\"b\":1,\"a\":[true,null,-1,1.5,\"\\u0000🌤\"]}");
}

TEST_CASE("a body that is no object is refused by every endpoint") {
  for (const std::string body : {"[]", "1", "null", "\"a\"", "true"}) {
    CAPTURE(body);
    for (const auto& said : {refused(parse_chat, body), refused(parse_completion, body), refused(parse_responses, body),
                             refused(parse_messages, body), refused(parse_count_tokens, body),
                             refused(parse_tokenize, body), refused(parse_detokenize, body)})
      CHECK(said.starts_with(": The body must be an object, not "));
  }
}

}  // namespace
