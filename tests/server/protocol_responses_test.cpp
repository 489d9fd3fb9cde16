// /v1/responses: its requests, and the bytes of its answers.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "server/answer_head.h"
#include "server/protocol/answer.h"
#include "server/protocol/request.h"
#include "server/refused.h"

namespace {

using namespace tqkv;
using namespace tqkv::server;
using nlohmann::json;

std::string body(const std::string& members) {
  return R"({"model":"M","input":"Hi")" + (members.empty() ? "" : "," + members) + "}";
}

std::string messages_of(const Request& request) {
  return std::get<Conversation>(request.prompt).messages;
}

TEST_CASE("input is a text or items, and instructions come first") {
  CHECK(messages_of(parse_responses(body(""))) == R"([{"role":"user","content":"Hi"}])");
  const Request request = parse_responses(R"({"instructions":"Help.","input":[
    {"role":"developer","content":"Be short."},
    {"type":"message","role":"user","content":[{"type":"input_text","text":"What is the weather?"}]},
    {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"Hm."}]},
    {"type":"message","role":"assistant","content":[{"type":"output_text","text":"I look.","annotations":[]}]},
    {"type":"function_call","call_id":"a","name":"weather","arguments":"{\"city\":\"Oslo\"}"},
    {"type":"function_call","call_id":"b","name":"time","arguments":""},
    {"type":"function_call_output","call_id":"a","output":"12"},
    {"type":"function_call_output","call_id":"b","output":[{"type":"input_text","text":"9"}]},
    {"type":"reasoning","summary":[{"type":"summary_text","text":"So."}],"encrypted_content":"x"},
    {"type":"function_call","call_id":"c","name":"time","arguments":"{}"}]})");
  CHECK(json::parse(messages_of(request)) == json::parse(R"([
    {"role":"system","content":"Help."},{"role":"system","content":"Be short."},{"role":"user","content":"What is the weather?"},
    {"role":"assistant","reasoning_content":"Hm.","content":"I look.","tool_calls":[{"function":{"name":"weather","arguments":{"city":"Oslo"}}},
      {"function":{"name":"time","arguments":{}}}]},
    {"role":"tool","content":"12"},{"role":"tool","content":"9"},
    {"role":"assistant","content":"","reasoning_content":"So.","tool_calls":[{"function":{"name":"time","arguments":{}}}]}])"));
}

TEST_CASE("an agent's request is read, and its tools of other kinds are skipped") {
  const Request request = parse_responses(body(
      R"("tools":[{"type":"function","name":"shell","description":"d","strict":false,"parameters":{"type":"object"}},
         {"type":"web_search"},{"type":"custom","name":"apply_patch"},{"type":"web_search"}],
         "tool_choice":"auto","parallel_tool_calls":false,"reasoning":{"effort":"high","summary":"auto"},"store":false,"stream":true,
         "include":["reasoning.encrypted_content"],"prompt_cache_key":"k","max_output_tokens":16.0,
         "text":{"verbosity":"low","format":{"type":"json_schema","name":"s","schema":{"type":"object"}}},"client_metadata":{}, "new_field":1)"));
  CHECK(request.tools() ==
        R"([{"type":"function","function":{"name":"shell","description":"d","parameters":{"type":"object"}}}])");
  CHECK(request.skipped_tools == std::vector<std::string>{"web_search", "custom"});
  CHECK(request.ignored ==
        std::vector<std::string>{"text.verbosity", "include: reasoning.encrypted_content", "new_field"});
  CHECK(request.think == true);
  CHECK_FALSE(request.parallel_tool_calls);
  CHECK(request.stream);
  CHECK(request.max_tokens == 16);
  CHECK(request.format == ResponseFormat::json_schema);
  CHECK(request.schema == R"({"type":"object"})");
  CHECK(json::parse(request.given_back).at("parallel_tool_calls") == false);
  CHECK(json::parse(request.given_back).at("tools").size() == 4);
}

TEST_CASE("logprobs of a response are asked for in two ways") {
  CHECK_FALSE(parse_responses(body("")).top_logprobs);
  CHECK(parse_responses(body(R"("top_logprobs":3)")).top_logprobs == 3);
  CHECK(parse_responses(body(R"("include":["message.output_text.logprobs"])")).top_logprobs == 0);
}

TEST_CASE("what a response cannot be is refused with the name of its field") {
  CHECK(refused(parse_responses, "{}").starts_with("input: input is missing"));
  CHECK(refused(parse_responses, R"({"input":[]})").starts_with("input: input must be"));
  CHECK(refused(parse_responses, R"({"input":{}})").starts_with("input: input must be"));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("previous_response_id":"resp_1")", "previous_response_id"},
      {R"("conversation":"conv_1")", "conversation"},
      {R"("prompt":{"id":"p"})", "prompt"},
      {R"("background":true)", "background"},
      {R"("background":1)", "background"},
      {R"("instructions":1)", "instructions"},
      {R"("max_output_tokens":0)", "max_output_tokens"},
      {R"("reasoning":"high")", "reasoning"},
      {R"("reasoning":{"effort":"much"})", "reasoning.effort"},
      {R"("text":[])", "text"},
      {R"("text":{"format":{"type":"json_schema"}})", "text.format.schema"},
      {R"("tools":[1])", "tools[0]"},
      {R"("tools":[{"type":"function"}])", "tools[0].name"},
      {R"("tool_choice":"any")", "tool_choice"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tool_choice":{"type":"web_search"})", "tool_choice"},
      {R"("tool_choice":{"type":"function","name":"f"})", "tool_choice"},
      {R"("include":[1])", "include"},
      {R"("store":"no")", "store"},
      {R"("top_logprobs":21)", "top_logprobs"},
      {R"("truncation":1)", "truncation"}};
  for (const auto& [members, field] : cases) {
    const auto& tried = members;
    CAPTURE(tried);
    const std::string said = refused(parse_responses, body(members));
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
  const std::vector<std::pair<std::string, std::string>> items = {
      {"1", "input[0]"},
      {R"({"type":"item_reference","id":"a"})", "input[0].type"},
      {R"({"role":"tool","content":"a"})", "input[0].role"},
      {R"({"role":"user"})", "input[0].content"},
      {R"({"role":"user","content":[{"type":"input_image","image_url":"x"}]})", "input[0].content[0].type"},
      {R"({"type":"function_call","name":"f"})", "input[0].arguments"},
      {R"({"type":"function_call","name":"f","arguments":"[1]"})", "input[0].arguments"},
      {R"({"type":"function_call","name":"f","arguments":"{"})", "input[0].arguments"},
      {R"({"type":"function_call_output","call_id":"a"})", "input[0].output"}};
  for (const auto& [item, field] : items) {
    const auto& tried = item;
    CAPTURE(tried);
    const std::string said = refused(parse_responses, R"({"input":[)" + item + "]}");
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
}

AnswerHead head(bool stream) {
  return tqkv::test::answer_head(stream, test::plain_request);
}

const AnswerReport report{"baseline", 1, {}, 2.0, {}, {}};

std::string event(const std::string& type, int number, const std::string& more) {
  return "event: " + type + "\ndata: {\"type\":\"" + type + "\",\"sequence_number\":" + std::to_string(number) + "," +
         more + "}\n\n";
}

const std::string start =
    R"("response":{"id":"resp_7f","object":"response","created_at":1,"status":"in_progress","error":null,"incomplete_details":null,"model":"M","output":[],"tools":[],"tool_choice":"auto","parallel_tool_calls":true,"usage":null})";

TEST_CASE("a response streams its items, numbered from 0") {
  const auto writer = AnswerWriter::make(Endpoint::responses, head(true));
  CHECK(writer->begin({20, 16}) == event("response.created", 0, start));
  CHECK(writer->heartbeat() == ":\n\n");
  CHECK(
      writer->thinking(0, "Hm") ==
      event("response.output_item.added", 1,
            R"("output_index":0,"item":{"id":"rs_7fx0","type":"reasoning","summary":[],"content":[]})") +
          event(
              "response.content_part.added", 2,
              R"("item_id":"rs_7fx0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":""})") +
          event("response.reasoning_text.delta", 3,
                R"("item_id":"rs_7fx0","output_index":0,"content_index":0,"delta":"Hm")"));
  const std::string text_item =
      R"({"id":"msg_7fx1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi","annotations":[],"logprobs":[]}]})";
  const std::string thinking_item =
      R"({"id":"rs_7fx0","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"Hm"}]})";
  CHECK(
      writer->text(0, "Hi") ==
      event("response.reasoning_text.done", 4,
            R"("item_id":"rs_7fx0","output_index":0,"content_index":0,"text":"Hm")") +
          event(
              "response.content_part.done", 5,
              R"("item_id":"rs_7fx0","output_index":0,"content_index":0,"part":{"type":"reasoning_text","text":"Hm"})") +
          event("response.output_item.done", 6, R"("output_index":0,"item":)" + thinking_item) +
          event(
              "response.output_item.added", 7,
              R"("output_index":1,"item":{"id":"msg_7fx1","type":"message","status":"in_progress","role":"assistant","content":[]})") +
          event(
              "response.content_part.added", 8,
              R"("item_id":"msg_7fx1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]})") +
          event("response.output_text.delta", 9,
                R"("item_id":"msg_7fx1","output_index":1,"content_index":0,"delta":"Hi","logprobs":[])"));
  CHECK(
      writer->call_begin(0, "f") ==
      event("response.output_text.done", 10,
            R"("item_id":"msg_7fx1","output_index":1,"content_index":0,"text":"Hi","logprobs":[])") +
          event(
              "response.content_part.done", 11,
              R"("item_id":"msg_7fx1","output_index":1,"content_index":0,"part":{"type":"output_text","text":"Hi","annotations":[],"logprobs":[]})") +
          event("response.output_item.done", 12, R"("output_index":1,"item":)" + text_item) +
          event(
              "response.output_item.added", 13,
              R"("output_index":2,"item":{"id":"fc_7fx2","type":"function_call","status":"in_progress","call_id":"call_7fx0x0","name":"f","arguments":""})"));
  CHECK(writer->call_arguments(0, "{}") ==
        event("response.function_call_arguments.delta", 14, R"("item_id":"fc_7fx2","output_index":2,"delta":"{}")"));
  const std::string call_item =
      R"({"id":"fc_7fx2","type":"function_call","status":"completed","call_id":"call_7fx0x0","name":"f","arguments":"{}"})";
  CHECK(writer->call_end(0) == event("response.function_call_arguments.done", 15,
                                     R"("item_id":"fc_7fx2","output_index":2,"name":"f","arguments":"{}")") +
                                   event("response.output_item.done", 16, R"("output_index":2,"item":)" + call_item));
  CHECK(writer->finish(0, Ending::end_of_turn) == "");
  CHECK(
      writer->end({20, 16, 5, 2}, report) ==
      event(
          "response.completed", 17,
          R"("response":{"id":"resp_7f","object":"response","created_at":1,"status":"completed","error":null,"incomplete_details":null,"model":"M","output":[)" +
              thinking_item + "," + text_item + "," + call_item +
              R"(],"tools":[],"tool_choice":"auto","parallel_tool_calls":true,"usage":{"input_tokens":20,"input_tokens_details":{"cached_tokens":16},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":25},"tqkv":{"cache":"baseline","seed":1,"prompt_tps":null,"generation_tps":2.0,"queue_s":null,"stopped_by":"end_of_turn"}})"));
}

TEST_CASE("a response that ran out of tokens is incomplete") {
  const auto writer = AnswerWriter::make(Endpoint::responses, head(true));
  writer->begin({});
  writer->call_begin(0, "f");
  writer->call_arguments(0, "{\"a");
  CHECK(writer->finish(0, Ending::max_tokens).find(R"("status":"incomplete")") != std::string::npos);
  const std::string end = writer->end({}, report);
  CHECK(end.starts_with("event: response.incomplete\n"));
  CHECK(end.find(R"("incomplete_details":{"reason":"max_output_tokens"})") != std::string::npos);
}

TEST_CASE("a response that fails ends with its error") {
  const auto writer = AnswerWriter::make(Endpoint::responses, head(true));
  writer->begin({});
  const std::string failed = writer->fail(ApiError(500, "server_error", "It broke."));
  CHECK(failed.starts_with("event: response.failed\n"));
  CHECK(failed.find(R"("status":"failed","error":{"code":"server_error","message":"It broke."})") != std::string::npos);
}

TEST_CASE("a message that is cut is incomplete in each event that has it") {
  const auto writer = AnswerWriter::make(Endpoint::responses, head(true));
  writer->begin({20, 16});
  writer->text(0, "Hi");
  std::string events = writer->finish(0, Ending::max_tokens);
  CHECK(events.find("response.output_item.done") != std::string::npos);
  events += writer->end({20, 16, 1, 0}, report);
  CHECK(events.find(R"("status":"incomplete")") != std::string::npos);
  CHECK(events.find(R"("status":"completed")") == std::string::npos);
}

}  // namespace
