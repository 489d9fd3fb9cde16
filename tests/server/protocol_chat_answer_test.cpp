// The bytes of chat answers.
#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "server/answer_head.h"
#include "server/protocol/answer.h"

namespace {

using namespace tqkv::server;

AnswerHead head(bool stream) {
  return tqkv::test::answer_head(stream);
}

const AnswerReport report{"turboquant:k4v4", 1, 100.0, 12.3456, 0.5, Reuse{1180, 1204}};
const std::string ours =
    R"("tqkv":{"cache":"turboquant:k4v4","seed":1,"prompt_tps":100.0,"generation_tps":12.346,"queue_s":0.5,"stopped_by":"end_of_turn","reuse":{"from":1180,"parted_at":1204}})";
const std::string usage =
    R"("usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":16},"completion_tokens_details":{"reasoning_tokens":2}})";

std::string chunk(const std::string& delta, const std::string& reason = "null", int index = 0) {
  return R"(data: {"id":"chatcmpl-7f","object":"chat.completion.chunk","created":1,"model":"M","choices":[{"index":)" +
         std::to_string(index) + R"(,"delta":)" + delta + R"(,"logprobs":null,"finish_reason":)" + reason + "}]";
}

TEST_CASE("a chat streams thinking, text and calls, and ends once") {
  AnswerHead given = head(true);
  given.include_usage = true;
  const auto writer = AnswerWriter::make(Endpoint::chat, given);
  CHECK(writer->heartbeat() == ":\n\n");
  CHECK(writer->begin({20, 16}) == chunk(R"({"role":"assistant","content":""})") + "}\n\n");
  CHECK(writer->thinking(0, "The user") == chunk(R"({"reasoning_content":"The user"})") + "}\n\n");
  CHECK(writer->text(0, "A \"vector\"\n") == chunk(R"({"content":"A \"vector\"\n"})") + "}\n\n");
  CHECK(
      writer->call_begin(0, "get_weather") ==
      chunk(
          R"({"tool_calls":[{"index":0,"id":"call_7fx0x0","type":"function","function":{"name":"get_weather","arguments":""}}]})") +
          "}\n\n");
  CHECK(writer->call_arguments(0, R"({"city": "Pa)") ==
        chunk(R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"city\": \"Pa"}}]})") + "}\n\n");
  CHECK(writer->call_arguments(0, "ris\"}") ==
        chunk(R"({"tool_calls":[{"index":0,"function":{"arguments":"ris\"}"}}]})") + "}\n\n");
  CHECK(writer->call_end(0) == "");
  CHECK(writer->finish(0, Ending::end_of_turn) == "");
  CHECK(writer->end({20, 16, 5, 2}, report) ==
        chunk("{}", "\"tool_calls\"") + "}\n\n" +
            R"(data: {"id":"chatcmpl-7f","object":"chat.completion.chunk","created":1,"model":"M","choices":[],)" +
            usage + "," + ours + "}\n\ndata: [DONE]\n\n");
}

TEST_CASE("without include_usage the last chunk of a chat has the report and no usage") {
  const auto writer = AnswerWriter::make(Endpoint::chat, head(true));
  writer->begin({20, 16});
  writer->text(0, "Hi");
  writer->finish(0, Ending::end_of_turn);
  CHECK(writer->end({20, 16, 5, 2}, report) == chunk("{}", "\"stop\"") + "," + ours + "}\n\ndata: [DONE]\n\n");
}

TEST_CASE("choices of a chat mix and each ends once") {
  AnswerHead given = head(true);
  given.n = 2;
  const auto writer = AnswerWriter::make(Endpoint::chat, given);
  CHECK(writer->begin({20, 16}) == chunk(R"({"role":"assistant","content":""})") + "}\n\n" +
                                       chunk(R"({"role":"assistant","content":""})", "null", 1) + "}\n\n");
  CHECK(writer->text(1, "b") == chunk(R"({"content":"b"})", "null", 1) + "}\n\n");
  CHECK(writer->text(0, "a") == chunk(R"({"content":"a"})") + "}\n\n");
  CHECK(writer->finish(1, Ending::context) == chunk("{}", "\"length\"", 1) + "}\n\n");
  CHECK(writer->finish(0, Ending::end_of_turn) == "");
  const std::string end = writer->end({20, 16, 5, 2}, report);
  CHECK(end.starts_with(chunk("{}", "\"stop\"") + ",\"tqkv\":"));
  CHECK(end.find(R"("stopped_by":["end_of_turn","context"])") != std::string::npos);
}

TEST_CASE("an error in a stream of a chat is its last event") {
  const auto writer = AnswerWriter::make(Endpoint::chat, head(true));
  writer->begin({});
  CHECK(writer->fail(ApiError(500, "server_error", "It broke.")) ==
        "data: {\"error\":{\"message\":\"It broke.\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n");
}

TEST_CASE("a whole chat has everything in one object") {
  AnswerHead given = head(false);
  given.logprobs = true;
  const auto writer = AnswerWriter::make(Endpoint::chat, given);
  CHECK(writer->begin({20, 16}) == "");
  CHECK(writer->thinking(0, "Hm") == "");
  CHECK(writer->text(0, "é", {{"\xc3", -0.5, {{"\xc3", -0.5}}}, {"\xa9", -INFINITY, {}}}) == "");
  CHECK(writer->call_begin(0, "f") == "");
  CHECK(writer->call_arguments(0, "{}") == "");
  CHECK(writer->call_end(0) == "");
  CHECK(writer->heartbeat() == "");
  CHECK(writer->finish(0, Ending::end_of_turn) == "");
  CHECK(
      writer->end({20, 16, 5, 2}, report) ==
      R"({"id":"chatcmpl-7f","object":"chat.completion","created":1,"model":"M","choices":[{"index":0,"message":{"role":"assistant","content":"é","refusal":null,"reasoning_content":"Hm","tool_calls":[{"id":"call_7fx0x0","type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":{"content":[{"token":"�","logprob":-0.5,"bytes":[195],"top_logprobs":[{"token":"�","logprob":-0.5,"bytes":[195]}]},{"token":"�","logprob":-9999.0,"bytes":[169],"top_logprobs":[]}],"refusal":null},"finish_reason":"tool_calls"}],)" +
          usage + "," + ours + "}");
}

TEST_CASE("a whole answer that fails is the error") {
  CHECK(
      AnswerWriter::make(Endpoint::chat, head(false))->fail(too_long(9000, 8192)) ==
      R"({"error":{"message":"The prompt is too long: 9000 tokens > 8192 maximum. Nothing was cut.","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}})");
}

}  // namespace
