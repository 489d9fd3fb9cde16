// /v1/completions, /tokenize and /detokenize, and what the server says of itself.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "server/protocol/answer.h"
#include "server/protocol/request.h"
#include "server/protocol/status_texts.h"
#include "server/refused.h"

namespace {

using namespace tqkv;
using namespace tqkv::server;

TEST_CASE("a prompt is a text, ids or several of either") {
  CHECK(std::get<PromptText>(parse_completion(R"({"prompt":"a"})").prompt) == "a");
  CHECK(std::get<PromptText>(parse_completion(R"({"prompt":""})").prompt) == "");
  CHECK(std::get<PromptIds>(parse_completion(R"({"prompt":[1,2.0,3]})").prompt) == PromptIds{1, 2, 3});
  const Request several = parse_completion(R"({"prompt":["a",[4,5],[]],"n":2,"logprobs":0,"echo":false,"best_of":2})");
  CHECK(std::get<PromptText>(several.prompt) == "a");
  REQUIRE(several.more_prompts.size() == 2);
  CHECK(std::get<PromptIds>(several.more_prompts[0]) == PromptIds{4, 5});
  CHECK(std::get<PromptIds>(several.more_prompts[1]).empty());
  CHECK(several.top_logprobs == 0);
  CHECK(head_of(several, "1", 1, "M").n == 6);
  CHECK(head_of(several, "1", 1, "M").logprobs);
}

TEST_CASE("what a completion cannot be is refused with the name of its field") {
  const auto refusal = [](const std::string& members) {
    return refused(parse_completion, R"({"prompt":"a")" + (members.empty() ? "" : "," + members) + "}");
  };
  CHECK(refusal("") == "accepted");
  CHECK(refusal(R"("suffix":"")") == "accepted");
  CHECK(refusal(R"("echo":true)") == "accepted");
  for (const auto& [members, field] :
       std::vector<std::pair<std::string, std::string>>{{R"("suffix":"b")", "suffix"},
                                                        {R"("suffix":1)", "suffix"},
                                                        {R"("best_of":2)", "best_of"},
                                                        {R"("best_of":"2")", "best_of"},
                                                        {R"("echo":1)", "echo"},
                                                        {R"("echo":true,"logprobs":1)", "echo"},
                                                        {R"("logprobs":true)", "logprobs"},
                                                        {R"("logprobs":21)", "logprobs"},
                                                        {R"("max_tokens":0)", "max_tokens"},
                                                        {R"("n":9)", "n"},
                                                        {R"("grammar":"root")", "grammar"},
                                                        {R"("temperature":[])", "temperature"},
                                                        {R"("stream":0)", "stream"}}) {
    const auto& tried = members;
    CAPTURE(tried);
    const std::string said = refusal(members);
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
  for (const auto& [prompt, field] :
       std::vector<std::pair<std::string, std::string>>{{"null", "prompt"},
                                                        {"1", "prompt"},
                                                        {"{}", "prompt"},
                                                        {"[]", "prompt"},
                                                        {"[1,\"a\"]", "prompt"},
                                                        {"[1,-1]", "prompt"},
                                                        {"[1.5]", "prompt"},
                                                        {"[2147483648]", "prompt"},
                                                        {"[\"a\",1]", "prompt[1]"},
                                                        {"[[1],[\"a\"]]", "prompt[1]"},
                                                        {"[null]", "prompt[0]"},
                                                        {R"(["a","a","a","a","a","a","a","a","a"])", "prompt"}}) {
    const auto& tried = prompt;
    CAPTURE(tried);
    const std::string said = refused(parse_completion, R"({"prompt":)" + prompt + "}");
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
  CHECK(refused(parse_completion, R"({"prompt":["a","b","c"],"n":3})").starts_with("n: n times the prompts is 9"));
}

TEST_CASE("texts become tokens and tokens become texts") {
  CHECK(parse_tokenize(R"({"content":"a\u0000b","add_special":true})") == std::string("a\0b", 3));
  CHECK(refused(parse_tokenize, R"({"content":1})").starts_with("content: content must be a string"));
  CHECK(refused(parse_tokenize, "{}").starts_with("content: content is missing"));
  CHECK(parse_detokenize(R"({"tokens":[1,0,16.0]})") == std::vector<int>{1, 0, 16});
  CHECK(parse_detokenize(R"({"tokens":[]})").empty());
  for (const std::string tokens : {"null", "1", "[\"1\"]", "[-1]", "[1e30]", "[true]", "[[1]]"}) {
    CAPTURE(tokens);
    CHECK(refused(parse_detokenize, R"({"tokens":)" + tokens + "}").starts_with("tokens: tokens"));
  }
  CHECK(tokens_text({1, 2}) == R"({"tokens":[1,2]})");
  CHECK(content_text("a\"") == R"({"content":"a\""})");
  CHECK(count_text(12) == R"({"input_tokens":12})");
}

TEST_CASE("the server says what it has") {
  const ModelEntry model{"pocket", 1, 4096, "baseline"};
  const std::string one =
      R"({"id":"pocket","object":"model","created":1,"owned_by":"tqkv","max_model_len":4096,"tqkv":{"context":4096,"cache":"baseline"}})";
  CHECK(model_text(model) == one);
  CHECK(models_text({model}) == R"({"object":"list","data":[)" + one + "]}");
  CHECK(health_text("ok") == R"({"status":"ok"})");
  CHECK(
      plan_text({{"weights", 10, 10}, {"keys and values", 20, 5}}, 0) ==
      R"({"limit":null,"planned":30,"used":15,"kinds":[{"kind":"weights","planned":10,"used":10},{"kind":"keys and values","planned":20,"used":5}]})");
  CHECK(plan_text({}, 7) == R"({"limit":7,"planned":0,"used":0,"kinds":[]})");
}

TEST_CASE("every status has the type that the other protocol gives it") {
  for (const auto& [status, type] : std::vector<std::pair<int, std::string>>{{400, "invalid_request_error"},
                                                                             {401, "authentication_error"},
                                                                             {403, "permission_error"},
                                                                             {404, "not_found_error"},
                                                                             {413, "request_too_large"},
                                                                             {429, "rate_limit_error"},
                                                                             {500, "api_error"},
                                                                             {503, "overloaded_error"}})
    CHECK(anthropic_error(ApiError(status, "any", "m")) ==
          R"({"type":"error","error":{"type":")" + type + R"(","message":"m"}})");
  CHECK(
      openai_error(unknown_model("x")) ==
      R"({"error":{"message":"There is no model 'x' here.","type":"not_found_error","param":"model","code":"model_not_found"}})");
}

}  // namespace
