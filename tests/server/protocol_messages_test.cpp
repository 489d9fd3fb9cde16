// /v1/messages: its requests, and the bytes of its answers.
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
  return R"({"model":"M","max_tokens":9,"messages":[{"role":"user","content":"Hi"}])" +
         (members.empty() ? "" : "," + members) + "}";
}

Request with_messages(const std::string& messages, const std::string& members = "") {
  return parse_messages(R"({"max_tokens":9,"messages":[)" + messages + "]" + (members.empty() ? "" : "," + members) +
                        "}");
}

std::string messages_of(const Request& request) {
  return std::get<Conversation>(request.prompt).messages;
}

TEST_CASE("a request of messages says what it says, and thinks only when asked") {
  const Request request = parse_messages(body(""));
  CHECK(messages_of(request) == R"([{"role":"user","content":"Hi"}])");
  CHECK(request.max_tokens == 9);
  CHECK(request.think == false);
  CHECK_FALSE(request.stream);
  CHECK_FALSE(request.continues);
  CHECK(parse_messages(body(R"("thinking":{"type":"adaptive"})")).think == true);
  const Request thinks = parse_messages(body(R"("thinking":{"type":"enabled","budget_tokens":1024})"));
  CHECK(thinks.think == true);
  CHECK(thinks.ignored == std::vector<std::string>{"thinking.budget_tokens"});
  CHECK(parse_messages(body(R"("thinking":{"type":"disabled"})")).think == false);
  CHECK(parse_messages(body(R"("chat_template_kwargs":{"enable_thinking":true})")).think == true);
}

TEST_CASE("system blocks become one message, without an agent's billing line") {
  const std::string line = "x-anthropic-billing-header: cc_version=2.1; cch=1a2b;";
  const auto system = [](const std::string& value) {
    const json messages = json::parse(messages_of(parse_messages(body("\"system\":" + value))));
    return messages.at(0).at("role") == "system" ? messages.at(0).at("content").get<std::string>() : "none";
  };
  CHECK(system("\"You help.\"") == "You help.");
  CHECK(
      system(
          R"([{"type":"text","text":"You help.","cache_control":{"type":"ephemeral"}},{"type":"text","text":"Be short."}])") ==
      "You help.\n\nBe short.");
  CHECK(system(json::array({{{"type", "text"}, {"text", line}}, {{"type", "text"}, {"text", "You help."}}}).dump()) ==
        "You help.");
  CHECK(system(json(line + "\n\nYou help.").dump()) == "You help.");
  CHECK(system(json(line).dump()) == "none");
  CHECK(system(json("You help. " + line).dump()) == "You help. " + line);
}

TEST_CASE("thinking, calls and their results become turns") {
  const Request request = with_messages(R"(
    {"role":"user","content":[{"type":"text","text":"What is"},{"type":"text","text":"the weather?"}]},
    {"role":"assistant","content":[{"type":"thinking","thinking":"Hm.","signature":""},{"type":"redacted_thinking","data":"x"},
      {"type":"text","text":"I look."},{"type":"tool_use","id":"a","name":"weather","input":{"b":1,"a":2}},
      {"type":"tool_use","id":"b","name":"time","input":{}}]},
    {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"12"}]},
      {"type":"tool_result","tool_use_id":"b"},{"type":"text","text":"Go on."}]})");
  CHECK(
      messages_of(request) ==
      R"([{"role":"user","content":"What is\n\nthe weather?"},{"role":"assistant","content":"I look.","reasoning_content":"Hm.",)"
      R"("tool_calls":[{"function":{"name":"weather","arguments":{"b":1,"a":2}}},{"function":{"name":"time","arguments":{}}}]},)"
      R"({"role":"tool","content":"12"},{"role":"tool","content":""},{"role":"user","content":"Go on."}])");
  CHECK(ChatTemplate(ChatVariant::qwen3_6).render(std::get<Conversation>(request.prompt), {}).size() > 5);
}

TEST_CASE("an assistant's message at the end is gone on with") {
  const Request request =
      with_messages(R"({"role":"user","content":"Hi"},{"role":"assistant","content":"The answer is ("})");
  CHECK(request.continues);
  CHECK_FALSE(
      with_messages(
          R"({"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]})")
          .continues);
}

TEST_CASE("tools of messages are functions in a prompt, and tools of other kinds are skipped") {
  const std::string tools =
      R"("tools":[{"name":"f","description":"d","input_schema":{"type":"object","properties":{"z":{},"a":{}}}},{"type":"web_search_20250305","name":"web_search"}])";
  const Request request =
      parse_messages(body(tools + R"(,"tool_choice":{"type":"any","disable_parallel_tool_use":true})"));
  CHECK(
      request.tools() ==
      R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"z":{},"a":{}}}}}])");
  CHECK(request.skipped_tools == std::vector<std::string>{"web_search_20250305"});
  CHECK(request.tool_choice == ToolChoice::required);
  CHECK_FALSE(request.parallel_tool_calls);
  CHECK(parse_messages(body(tools + R"(,"tool_choice":{"type":"tool","name":"f"})")).tool_name == "f");
  CHECK(parse_messages(body(tools + R"(,"tool_choice":{"type":"none"})")).tools().empty());
}

TEST_CASE("what messages cannot be is refused with the name of its field") {
  CHECK(refused(parse_messages, R"({"messages":[{"role":"user","content":"a"}]})")
            .starts_with("max_tokens: max_tokens is missing"));
  CHECK(refused(parse_count_tokens, R"({"messages":[{"role":"user","content":"a"}]})") == "accepted");
  CHECK(refused(parse_messages, R"({"max_tokens":1})").starts_with("messages: messages is missing"));
  CHECK(refused(parse_messages, R"({"max_tokens":1,"messages":[]})").starts_with("messages: messages must be"));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("max_tokens":0)", "max_tokens"},
      {R"("thinking":true)", "thinking"},
      {R"("thinking":{})", "thinking.type"},
      {R"("thinking":{"type":"much"})", "thinking.type"},
      {R"("system":1)", "system"},
      {R"("system":[{"type":"image"}])", "system[0].type"},
      {R"("tools":{})", "tools"},
      {R"("tools":[{"name":"f"}])", "tools[0].input_schema"},
      {R"("tools":[{"name":"","input_schema":{}}])", "tools[0].name"},
      {R"("tools":[{"name":"f","input_schema":{}},{"name":"f","input_schema":{}}])", "tools[1].name"},
      {R"("tool_choice":"auto")", "tool_choice"},
      {R"("tool_choice":{"type":"any"})", "tool_choice"},
      {R"("tool_choice":{"type":"tool","name":"g"},"tools":[{"name":"f","input_schema":{}}])", "tool_choice"},
      {R"("tool_choice":{"type":"other"})", "tool_choice.type"},
      {R"("stop_sequences":[""])", "stop_sequences"},
      {R"("stop_sequences":3)", "stop_sequences"},
      {R"("temperature":"1")", "temperature"},
      {R"("stream":"yes")", "stream"},
      {R"("mcp_servers":[])", "mcp_servers"},
      {R"("output_config":{"format":{"type":"xml"}})", "output_config.format.type"},
      {R"("tqkv":{"other":1})", "tqkv.other"}};
  for (const auto& [members, field] : cases) {
    const auto& tried = members;
    CAPTURE(tried);
    // A later member of the same name would be refused as such.
    const std::string text = members.starts_with("\"max_tokens\"")
                                 ? R"({"messages":[{"role":"user","content":"Hi"}],)" + members + "}"
                                 : body(members);
    const std::string said = refused(parse_messages, text);
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
  const std::vector<std::pair<std::string, std::string>> messages = {
      {R"({"role":"user"})", "messages[0].content"},
      {R"({"role":"tool","content":"a"})", "messages[0].role"},
      {R"({"content":"a"})", "messages[0].role"},
      {R"(1)", "messages[0]"},
      {R"({"role":"user","content":[1]})", "messages[0].content[0]"},
      {R"({"role":"user","content":[{"type":"image","source":{}}]})", "messages[0].content[0].type"},
      {R"({"role":"user","content":[{"type":"tool_result","content":[{"type":"image"}]}]})",
       "messages[0].content[0].content[0].type"},
      {R"({"role":"assistant","content":[{"type":"text"}]})", "messages[0].content[0].text"},
      {R"({"role":"assistant","content":[{"type":"tool_use","name":"f","input":"{}"}]})",
       "messages[0].content[0].input"}};
  for (const auto& [message, field] : messages) {
    const auto& tried = message;
    CAPTURE(tried);
    const std::string said = refused(parse_messages, R"({"max_tokens":1,"messages":[)" + message + "]}");
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
}

AnswerHead head(bool stream) {
  return tqkv::test::answer_head(stream);
}

const AnswerReport report{"baseline", 1, {}, 2.0, {}, {}};
const std::string ours =
    R"("tqkv":{"cache":"baseline","seed":1,"prompt_tps":null,"generation_tps":2.0,"queue_s":null,"stopped_by":"end_of_turn"})";

TEST_CASE("a message streams its blocks, each begun and ended") {
  const auto writer = AnswerWriter::make(Endpoint::messages, head(true));
  CHECK(writer->heartbeat() == ":\n\n");  // no event may come before message_start
  CHECK(
      writer->begin({20, 16}) ==
      "event: message_start\n"
      R"(data: {"type":"message_start","message":{"id":"msg_7f","type":"message","role":"assistant","model":"M","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":16,"output_tokens":0}}})"
      "\n\n");
  CHECK(writer->heartbeat() == "event: ping\ndata: {\"type\":\"ping\"}\n\n");
  CHECK(
      writer->thinking(0, "Hm") ==
      "event: content_block_start\n"
      R"(data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})"
      "\n\nevent: content_block_delta\n"
      R"(data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}})"
      "\n\n");
  CHECK(writer->text(0, "A") ==
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
        "event: content_block_start\n"
        R"(data: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}})"
        "\n\nevent: content_block_delta\n"
        R"(data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"A"}})"
        "\n\n");
  CHECK(
      writer->call_begin(0, "f") ==
      "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n"
      "event: content_block_start\n"
      R"(data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_7fx0x0","name":"f","input":{}}})"
      "\n\n");
  CHECK(
      writer->call_arguments(0, "{\"a\":1}") ==
      "event: content_block_delta\n"
      R"(data: {"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}})"
      "\n\n");
  CHECK(writer->call_end(0) == "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n");
  CHECK(writer->finish(0, Ending::end_of_turn) == "");
  CHECK(
      writer->end({20, 16, 5, 2}, report) ==
      "event: message_delta\n"
      R"(data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":4,"cache_creation_input_tokens":0,"cache_read_input_tokens":16,"output_tokens":5},)" +
          ours + "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

TEST_CASE("a whole message keeps the order of its blocks") {
  const auto writer = AnswerWriter::make(Endpoint::messages, head(false));
  writer->begin({20, 16});
  writer->text(0, "A");
  writer->call_begin(0, "f");
  writer->call_arguments(0, "{\"a\":");
  writer->call_arguments(0, "1}");
  writer->call_end(0);
  writer->call_begin(0, "g");
  writer->call_arguments(0, "{\"b");
  CHECK(writer->finish(0, Ending::max_tokens).empty());
  const json message = json::parse(writer->end({20, 16, 5, 2}, report));
  CHECK(
      message.at("content") ==
      json::parse(
          R"([{"type":"text","text":"A"},{"type":"tool_use","id":"toolu_7fx0x0","name":"f","input":{"a":1}},{"type":"tool_use","id":"toolu_7fx0x1","name":"g","input":{}}])"));
  CHECK(message.at("stop_reason") == "max_tokens");
  CHECK(message.at("usage").at("output_tokens") == 5);
  CHECK(message.at("tqkv").at("stopped_by") == "max_tokens");
}

TEST_CASE("a stop sequence is named, and errors have the protocol's form") {
  const auto writer = AnswerWriter::make(Endpoint::messages, head(false));
  writer->begin({});
  writer->text(0, "A");
  writer->finish(0, Ending::stop_string, "END");
  const json message = json::parse(writer->end({}, report));
  CHECK(message.at("stop_reason") == "stop_sequence");
  CHECK(message.at("stop_sequence") == "END");
  CHECK(AnswerWriter::make(Endpoint::messages, head(false))->fail(unknown_model("x\ny")) ==
        R"({"type":"error","error":{"type":"not_found_error","message":"There is no model 'x\\ny' here."}})");
  CHECK(AnswerWriter::make(Endpoint::messages, head(true))->fail(ApiError(503, "x", "Full.")) ==
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Full.\"}}\n\n");
}

}  // namespace
