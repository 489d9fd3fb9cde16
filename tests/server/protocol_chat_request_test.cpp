// Bodies of /v1/chat/completions.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "server/protocol/json.h"
#include "server/protocol/request.h"
#include "server/refused.h"

namespace {

using namespace tqkv;
using namespace tqkv::server;
using nlohmann::json;

/// A body of one message and `members`.
std::string body(const std::string& members) {
  return R"({"model":"M","messages":[{"role":"user","content":"Hi"}])" + (members.empty() ? "" : "," + members) + "}";
}

Request chat(const std::string& members) {
  return parse_chat(body(members));
}

std::string refusal(const std::string& members) {
  return refused(parse_chat, body(members));
}

const Conversation& conversation(const Request& request) {
  return std::get<Conversation>(request.prompt);
}

const std::string weather =
    R"({"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}},"strict":true}})";

TEST_CASE("a chat request says only what it says") {
  const Request request = chat("");
  CHECK(request.model == "M");
  CHECK(conversation(request).messages == R"([{"role":"user","content":"Hi"}])");
  CHECK(conversation(request).tools.empty());
  CHECK_FALSE(request.think);
  CHECK_FALSE(request.max_tokens);
  CHECK_FALSE(request.sampling.temperature);
  CHECK_FALSE(request.seed);
  CHECK_FALSE(request.stream);
  CHECK_FALSE(request.top_logprobs);
  CHECK(request.n == 1);
  CHECK(request.ignored.empty());
}

TEST_CASE("every field of a chat request is read") {
  const Request request = chat(
      R"("max_tokens":5,"max_completion_tokens":7.0,"temperature":0.5,"top_p":0.9,"top_k":20,"min_p":0.1,"repetition_penalty":1.1,
      "presence_penalty":1.5,"frequency_penalty":-2,"seed":18446744073709551615,"n":8,"stop":["a","b"],"logprobs":true,"top_logprobs":20,
      "logit_bias":{"7":-100,"9":1.5},"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false},
      "response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"type":"object","b":1,"a":2},"strict":true}},
      "tools":[)" +
      weather +
      R"(],"tool_choice":"required","parallel_tool_calls":false,"chat_template_kwargs":{"enable_thinking":true,"preserve_thinking":true},
      "reasoning_effort":"none","ignore_eos":true,"user":"u","metadata":{"a":"b"},"store":false,"tqkv":{"exact":true,"cache":"turboquant:k4v4"})");
  CHECK(request.max_tokens == 7);
  CHECK(request.sampling.temperature == 0.5f);
  CHECK(request.sampling.top_p == 0.9f);
  CHECK(request.sampling.top_k == 20);
  CHECK(request.sampling.min_p == 0.1f);
  CHECK(request.sampling.repetition_penalty == 1.1f);
  CHECK(request.sampling.presence_penalty == 1.5f);
  CHECK(request.sampling.frequency_penalty == -2.0f);
  CHECK(request.seed == 18446744073709551615u);
  CHECK(request.n == 8);
  CHECK(request.stop == std::vector<std::string>{"a", "b"});
  CHECK(request.top_logprobs == 20);
  CHECK(request.logit_bias == std::vector<std::pair<int, float>>{{7, -100.0f}, {9, 1.5f}});
  CHECK(request.stream);
  CHECK(request.include_usage);
  CHECK(request.format == ResponseFormat::json_schema);
  CHECK(request.schema == R"({"type":"object","b":1,"a":2})");
  CHECK(conversation(request).tools == "[" + weather + "]");
  CHECK(request.tool_choice == ToolChoice::required);
  CHECK_FALSE(request.parallel_tool_calls);
  CHECK(request.think == true);  // the template's own argument wins
  CHECK(request.preserve_thinking);
  CHECK(request.ignore_eos);
  CHECK(request.exact);
  CHECK(request.cache == "turboquant:k4v4");
  CHECK(request.ignored.empty());
}

TEST_CASE("what a request does not say of sampling is the model's") {
  Sampling defaults;
  defaults.greedy = true;
  defaults.top_p = 0.8f;
  CHECK(chat("").sampling.over(defaults).is_greedy());
  const Sampling said = chat(R"("temperature":0.6,"top_k":-1)").sampling.over(defaults);
  CHECK_FALSE(said.is_greedy());
  CHECK(said.temperature == 0.6f);
  CHECK(said.top_p == 0.8f);
  CHECK(said.top_k == 0);
}

TEST_CASE("a null is an absent member") {
  for (const char* name : {"max_tokens",
                           "max_completion_tokens",
                           "temperature",
                           "top_p",
                           "top_k",
                           "min_p",
                           "repetition_penalty",
                           "presence_penalty",
                           "frequency_penalty",
                           "seed",
                           "n",
                           "stop",
                           "logprobs",
                           "top_logprobs",
                           "logit_bias",
                           "stream",
                           "stream_options",
                           "response_format",
                           "tools",
                           "tool_choice",
                           "parallel_tool_calls",
                           "chat_template_kwargs",
                           "reasoning_effort",
                           "ignore_eos",
                           "tqkv",
                           "audio",
                           "functions",
                           "function_call",
                           "modalities",
                           "grammar",
                           "web_search_options",
                           "store",
                           "continue_final_message"}) {
    CAPTURE(name);
    CHECK(refusal("\"" + std::string(name) + "\":null") == "accepted");
  }
  CHECK(refused(parse_chat, R"({"messages":null})").starts_with("messages: messages is missing"));
  CHECK(refused(parse_chat, R"({"model":null,"messages":[{"role":"user","content":"Hi"}]})") == "accepted");
}

TEST_CASE("a value of another type is refused with the name of its field") {
  const std::vector<std::pair<std::string, std::vector<std::string>>> wrong = {
      {"max_tokens", {"\"5\"", "true", "1.5", "[]", "{}"}},
      {"max_completion_tokens", {"\"5\"", "false", "0.1"}},
      {"temperature", {"\"1\"", "true", "[]"}},
      {"top_p", {"\"1\"", "{}"}},
      {"top_k", {"\"1\"", "1.5"}},
      {"min_p", {"\"1\"", "false"}},
      {"repetition_penalty", {"\"1\""}},
      {"presence_penalty", {"\"1\""}},
      {"frequency_penalty", {"\"1\""}},
      {"seed", {"\"1\"", "1.5", "true"}},
      {"n", {"\"1\"", "1.5"}},
      {"stop", {"1", "{}", "[1]", "[null]", "true"}},
      {"logprobs", {"1", "\"true\""}},
      {"top_logprobs", {"\"1\"", "true"}},
      {"logit_bias", {"[]", "1", R"({"a":1})", R"({"1":"2"})", R"({"-1":1})", R"({"1":null})"}},
      {"stream", {"1", "\"true\"", "{}"}},
      {"stream_options", {"true", "[]"}},
      {"response_format", {"\"text\"", "[]"}},
      {"tools", {"{}", "\"a\""}},
      {"tool_choice", {"1", "\"any\"", "[]", R"({"type":"function"})"}},
      {"parallel_tool_calls", {"1"}},
      {"chat_template_kwargs", {"true"}},
      {"reasoning_effort", {"1", "\"much\"", "{}"}},
      {"ignore_eos", {"1"}},
      {"tqkv", {"1", "[]"}},
      {"modalities", {"\"text\"", R"(["text","audio"])"}},
      {"store", {"1"}},
      {"continue_final_message", {"1", "true"}}};
  for (const auto& one : wrong) {
    const std::string& name = one.first;
    for (const std::string& value : one.second) {
      CAPTURE(name);
      CAPTURE(value);
      const std::string said = refusal("\"" + name + "\":" + value);
      CHECK_MESSAGE(said.starts_with(name + ": " + name), said);
    }
  }
  for (const std::string value : {"1", "true", "[]", "{}"})
    CHECK(refused(parse_chat, "{\"model\":" + value + ",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}")
              .starts_with("model: model must be a string"));
}

TEST_CASE("a number out of its range is refused with the range") {
  const std::vector<std::pair<std::string, std::vector<std::string>>> outside = {
      {"max_tokens", {"0", "-2", "1e30", "2147483648"}},
      {"temperature", {"-0.1", "100.1", "1e300"}},
      {"top_p", {"0", "1e-60", "1.01", "-1"}},
      {"top_k", {"-2", "2147483648", "1e30"}},
      {"min_p", {"-0.1", "1.1"}},
      {"repetition_penalty", {"0", "-1", "101"}},
      {"presence_penalty", {"-2.1", "2.1"}},
      {"frequency_penalty", {"-2.1", "2.1"}},
      {"seed", {"1e30", "-1e30", "18446744073709551616"}},
      {"n", {"0", "9", "-1"}},
      {"top_logprobs", {"-1", "21"}}};
  for (const auto& one : outside) {
    const std::string& name = one.first;
    for (const std::string& value : one.second) {
      CAPTURE(name);
      CAPTURE(value);
      const std::string said = refusal("\"" + name + "\":" + value);
      CHECK_MESSAGE(said.starts_with(name + ": " + name + " must be "), said);
    }
  }
  CHECK(refusal(R"("temperature":101)") == "temperature: temperature must be a number from 0 to 100, not 101.");
  CHECK(refusal(R"("logit_bias":{"1":101})") == "logit_bias: logit_bias of '1' must be a number from -100 to 100.");
  CHECK(refusal(R"("stop":"")") == "stop: stop: a string must have from 1 to 1024 bytes, this one has 0.");
  CHECK(refusal(R"("stop":["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"])")
            .starts_with("stop: stop must be at most 16 strings"));
  CHECK(refusal(R"("top_logprobs":2)") == "top_logprobs: top_logprobs wants logprobs to be true.");
}

TEST_CASE("an integer written 16.0 is one, and -1 tokens are no limit") {
  CHECK(chat(R"("max_tokens":16.0)").max_tokens == 16);
  CHECK(chat(R"("n":2.0)").n == 2);
  CHECK(chat(R"("seed":-1)").seed == 18446744073709551615u);
  CHECK(chat(R"("seed":1e3)").seed == 1000);
  CHECK_FALSE(chat(R"("max_tokens":-1)").max_tokens);
}

}  // namespace
