// Messages and tools of chats.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "server/protocol/request.h"
#include "server/refused.h"

namespace {

using namespace tqkv;
using namespace tqkv::server;

std::string chat(const std::string& messages, const std::string& members = "") {
  return R"({"messages":[)" + messages + "]" + (members.empty() ? "" : "," + members) + "}";
}

std::string messages_of(const std::string& messages) {
  return std::get<Conversation>(parse_chat(chat(messages)).prompt).messages;
}

const std::string user = R"({"role":"user","content":"Hi"})";
const std::string tool = R"({"type":"function","function":{"name":"f","parameters":{}}})";

TEST_CASE("messages come to the template as it takes them") {
  CHECK(messages_of(R"({"role":"developer","content":"Help.","name":"n"})") ==
        R"([{"role":"system","content":"Help."}])");
  CHECK(messages_of(R"({"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]})") ==
        R"([{"role":"user","content":"ab"}])");
  CHECK(messages_of(R"({"role":"user","content":[]})") == R"([{"role":"user","content":""}])");
  CHECK(
      messages_of(R"({"role":"assistant","content":null,"refusal":null,"reasoning_content":"r","tool_calls":[
          {"id":"a","type":"function","function":{"name":"f","arguments":"{\"b\":1,\"a\":{}}"}},
          {"function":{"name":"g","arguments":""}},{"function":{"name":"h","arguments":{"x":1}}}]})") ==
      R"([{"role":"assistant","content":"","reasoning_content":"r","tool_calls":[{"function":{"name":"f","arguments":{"b":1,"a":{}}}},)"
      R"({"function":{"name":"g","arguments":{}}},{"function":{"name":"h","arguments":{"x":1}}}]}])");
  CHECK(messages_of(R"({"role":"assistant","content":"a","reasoning":"other name"})") ==
        R"([{"role":"assistant","content":"a","reasoning_content":"other name"}])");
  CHECK(messages_of(R"({"role":"tool","tool_call_id":"a","content":"12"})") == R"([{"role":"tool","content":"12"}])");
}

TEST_CASE("what a conversation holds is rendered") {
  const Request request = parse_chat(chat(
      R"({"role":"system","content":"s"},)" + user +
          R"(,{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
          {"role":"tool","tool_call_id":"a","content":"12"})",
      "\"tools\":[" + tool + "]"));
  const std::string text =
      text_of(ChatTemplate(ChatVariant::qwen3_6).render(std::get<Conversation>(request.prompt), {}));
  CHECK(text.find("<function=f>\n<parameter=x>\n1\n</parameter>") != std::string::npos);
  CHECK(text.find("<tool_response>\n12\n</tool_response>") != std::string::npos);
  CHECK(text.find(R"("name": "f")") != std::string::npos);
}

TEST_CASE("messages that cannot be are refused with their place") {
  CHECK(refused(parse_chat, R"({"messages":[]})").starts_with("messages: messages must be"));
  CHECK(refused(parse_chat, R"({"messages":"Hi"})").starts_with("messages: messages must be an array"));
  CHECK(refused(parse_chat, "{}").starts_with("messages: messages is missing"));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"1", "messages[1]"},
      {"{}", "messages[1].role"},
      {R"({"role":1,"content":"a"})", "messages[1].role"},
      {R"({"role":"function","content":"a"})", "messages[1].role"},
      {R"({"role":"user"})", "messages[1].content"},
      {R"({"role":"user","content":null})", "messages[1].content"},
      {R"({"role":"user","content":1})", "messages[1].content"},
      {R"({"role":"user","content":{}})", "messages[1].content"},
      {R"({"role":"user","content":["a"]})", "messages[1].content[0]"},
      {R"({"role":"user","content":[{"text":"a"}]})", "messages[1].content[0].type"},
      {R"({"role":"user","content":[{"type":"text"}]})", "messages[1].content[0].text"},
      {R"({"role":"user","content":[{"type":"text","text":1}]})", "messages[1].content[0].text"},
      {R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]})", "messages[1].content[0].type"},
      {R"({"role":"user","content":[{"type":"input_audio"}]})", "messages[1].content[0].type"},
      {R"({"role":"user","content":[{"type":"file"}]})", "messages[1].content[0].type"},
      {R"({"role":"assistant","content":"a","audio":{"id":"x"}})", "messages[1].audio"},
      {R"({"role":"assistant","function_call":{"name":"f"}})", "messages[1].function_call"},
      {R"({"role":"assistant","reasoning_content":1})", "messages[1].reasoning_content"},
      {R"({"role":"assistant","tool_calls":{}})", "messages[1].tool_calls"},
      {R"({"role":"assistant","tool_calls":[1]})", "messages[1].tool_calls[0]"},
      {R"({"role":"assistant","tool_calls":[{"type":"custom"}]})", "messages[1].tool_calls[0].function"},
      {R"({"role":"assistant","tool_calls":[{"function":{}}]})", "messages[1].tool_calls[0].function.name"},
      {R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"[]"}}]})",
       "messages[1].tool_calls[0].function.arguments"},
      {R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":"}}]})",
       "messages[1].tool_calls[0].function.arguments"},
      {R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":1}}]})",
       "messages[1].tool_calls[0].function.arguments"},
      {R"({"role":"tool","content":"a","tool_call_id":1})", "messages[1].tool_call_id"}};
  for (const auto& [message, field] : cases) {
    const auto& tried = message;
    CAPTURE(tried);
    const std::string said = refused(parse_chat, chat(user + "," + message));
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
}

TEST_CASE("tools and the choice among them are checked") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("tools":[1])", "tools[0]"},
      {R"("tools":[{"function":{"name":"f"}}])", "tools[0].type"},
      {R"("tools":[{"type":"custom","custom":{"name":"f"}}])", "tools[0].type"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"a>b"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])", "tools[0].function.parameters"},
      {R"("tools":[{"type":"function","function":{"name":"f","description":1}}])", "tools[0].function.description"},
      {"\"tools\":[" + tool + "," + tool + "]", "tools[1].function.name"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tools":[],"tool_choice":"required")", "tool_choice"},
      {"\"tools\":[" + tool + R"(],"tool_choice":{"type":"function","function":{"name":"g"}})", "tool_choice"},
      {"\"tools\":[" + tool + R"(],"tool_choice":{"type":"function","function":{}})", "tool_choice.function.name"},
      {"\"tools\":[" + tool + R"(],"tool_choice":{"type":"allowed_tools","allowed_tools":{}})", "tool_choice"}};
  for (const auto& [members, field] : cases) {
    const auto& tried = members;
    CAPTURE(tried);
    const std::string said = refused(parse_chat, chat(user, members));
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
  const Request named =
      parse_chat(chat(user, "\"tools\":[" + tool + R"(],"tool_choice":{"type":"function","function":{"name":"f"}})"));
  CHECK(named.tool_choice == ToolChoice::named);
  CHECK(named.tool_name == "f");
  const Request none = parse_chat(chat(user, "\"tools\":[" + tool + R"(],"tool_choice":"none")"));
  CHECK(none.tool_choice == ToolChoice::none);
  CHECK(none.tools().empty());
}

TEST_CASE("formats of an answer are told apart") {
  CHECK(parse_chat(chat(user, R"("response_format":{"type":"text"})")).format == ResponseFormat::text);
  CHECK(parse_chat(chat(user, R"("response_format":{"type":"json_object"})")).format == ResponseFormat::json_object);
  for (const auto& [format, field] : std::vector<std::pair<std::string, std::string>>{
           {"{}", "response_format.type"},
           {R"({"type":"xml"})", "response_format.type"},
           {R"({"type":"json_schema"})", "response_format.json_schema"},
           {R"({"type":"json_schema","json_schema":{"name":"s"}})", "response_format.json_schema.schema"},
           {R"({"type":"json_schema","json_schema":{"schema":"s"}})", "response_format.json_schema.schema"}}) {
    const auto& tried = format;
    CAPTURE(tried);
    const std::string said = refused(parse_chat, chat(user, "\"response_format\":" + format));
    CHECK_MESSAGE(said.starts_with(field + ": " + field), said);
  }
}

TEST_CASE("what is known and cannot be done is refused, what is not known is ignored and named") {
  for (const std::string name :
       {"audio", "functions", "function_call", "web_search_options", "grammar", "json_schema", "guided_json",
        "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"}) {
    CAPTURE(name);
    const std::string said = refused(parse_chat, chat(user, "\"" + name + "\":{}"));
    CHECK_MESSAGE(said.starts_with(name + ": " + name + " is not supported: "), said);
  }
  const Request request = parse_chat(chat(
      user,
      R"("service_tier":"auto","mirostat":2,"store":true,"chat_template_kwargs":{"other":1},"stream_options":{"other":1},
      "user":"u","metadata":{},"prompt_cache_key":"k","modalities":["text"])"));
  CHECK(request.ignored == std::vector<std::string>{"chat_template_kwargs.other", "stream_options.other", "store",
                                                    "service_tier", "mirostat"});
}

TEST_CASE("our own object takes no other member") {
  CHECK(refused(parse_chat, chat(user, R"("tqkv":{"exact":1})")).starts_with("tqkv.exact: "));
  CHECK(refused(parse_chat, chat(user, R"("tqkv":{"cache":1})")).starts_with("tqkv.cache: "));
  CHECK(refused(parse_chat, chat(user, R"("tqkv":{"exakt":true})")) ==
        "tqkv.exakt: tqkv.exakt is not known: tqkv has exact and cache.");
}

}  // namespace
