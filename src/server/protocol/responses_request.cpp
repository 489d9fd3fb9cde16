// The body of /v1/responses.
#include <fmt/format.h>

#include <algorithm>

#include "server/protocol/request.h"
#include "server/protocol/request_parts.h"
#include "server/protocol/turn_list.h"

namespace tqkv::server {
namespace {

void read_message(Fields& item, TurnList& turns) {
  const std::string role = item.required_text("role");
  const Json* content = item.get("content");
  if (!content) item.wrong("content", "a string or an array of parts");
  const std::string at = item.path("content");
  if (role != "assistant") turns.part();  // reasoning and calls belong to the answer next to them
  if (role == "user") {
    turns.user(read_content(content, at, {"input_text", "text"}, between_parts));
  } else if (role == "system" || role == "developer") {
    turns.system(read_content(content, at, {"input_text", "text"}, between_parts));
  } else if (role == "assistant") {
    turns.answer(read_content(content, at, {"output_text", "input_text", "text", "refusal"}, between_parts));
  } else {
    throw bad_request(item.path("role"), fmt::format("{} must be system, developer, user or assistant, not {}.",
                                                     item.path("role"), in_quotes(role)));
  }
}

/// Reasoning lies in content, where this program puts it, or in a summary.
void read_reasoning(Fields& item, TurnList& turns) {
  std::string text =
      read_content(item.array("content"), item.path("content"), {"reasoning_text", "text"}, between_parts);
  if (text.empty()) text = read_content(item.array("summary"), item.path("summary"), {"summary_text"}, between_parts);
  if (!text.empty()) turns.thinking(text);
}

void read_item(const Json& value, const std::string& where, TurnList& turns) {
  Fields item(value, where);
  const std::string type = item.text("type").value_or("message");
  if (type == "message") {
    read_message(item, turns);
  } else if (type == "function_call") {
    const std::string name = item.required_text("name");
    turns.call(name, read_arguments(item.required_text("arguments"), item.path("arguments")));
  } else if (type == "function_call_output") {
    item.text("call_id");
    const Json* output = item.get("output");
    if (!output) item.wrong("output", "a string or an array of parts");
    turns.tool_result(read_content(output, item.path("output"), {"input_text", "output_text", "text"}, between_parts));
  } else if (type == "reasoning") {
    read_reasoning(item, turns);
  } else {
    throw bad_request(item.path("type"),
                      fmt::format("{}: an item of type {} cannot be read here.", item.path("type"), in_quotes(type)));
  }
}

void read_input(const Json& input, TurnList& turns) {
  if (input.is_string()) return turns.user(input.get<std::string>());
  for (std::size_t i = 0; i < input.size(); ++i) read_item(input[i], fmt::format("input[{}]", i), turns);
}

Tools read_responses_tools(Fields& fields, Request& request) {
  Tools tools;
  const Json* list = fields.array("tools");
  for (std::size_t i = 0; list && i < list->size(); ++i) {
    Fields tool((*list)[i], fmt::format("{}[{}]", fields.path("tools"), i));
    const std::string type = tool.required_text("type");
    if (type != "function") {
      note(request.skipped_tools, type);
      continue;
    }
    const std::string name = tool.required_text("name");
    Json function = {{"name", name}};
    if (const auto description = tool.text("description")) function["description"] = *description;
    if (const Json* parameters = tool.object("parameters")) function["parameters"] = *parameters;
    tool.boolean("strict");
    tools.add({{"type", "function"}, {"function", std::move(function)}}, name, tool.path("name"));
  }
  return tools;
}

void read_responses_tool_choice(Fields& fields, const Tools& tools, Request& request) {
  const std::string where = fields.path("tool_choice");
  const Json* choice = fields.get("tool_choice");
  if (choice && choice->is_object()) {
    Fields inside(*choice, where);
    const std::string type = inside.required_text("type");
    if (type != "function")
      throw bad_request(where, fmt::format("{} must be auto, none, required or name a function.", where));
    return choose_tool(ToolChoice::named, inside.required_text("name"), where, tools, request);
  }
  read_tool_word(fields, tools, request);
}

/// What an answer of this endpoint repeats of the request.
std::string repeated(Fields& fields, const Request& request) {
  const auto or_else = [&](std::string_view name, Json otherwise) {
    const Json* value = fields.get(name);
    return value ? *value : otherwise;
  };
  return print({{"instructions", or_else("instructions", nullptr)},
                {"max_output_tokens", or_else("max_output_tokens", nullptr)},
                {"metadata", or_else("metadata", Json::object())},
                {"parallel_tool_calls", request.parallel_tool_calls},
                {"previous_response_id", nullptr},
                {"reasoning", or_else("reasoning", {{"effort", nullptr}, {"summary", nullptr}})},
                {"store", false},
                {"temperature", or_else("temperature", nullptr)},
                {"text", or_else("text", {{"format", {{"type", "text"}}}})},
                {"tool_choice", or_else("tool_choice", "auto")},
                {"tools", or_else("tools", Json::array())},
                {"top_p", or_else("top_p", nullptr)},
                {"truncation", "disabled"}});
}

}  // namespace

Request parse_responses(std::string_view body) {
  const Json top = parse_json(body);
  Fields fields(top);
  Request request;
  request.model = fields.text("model").value_or("");
  fields.refuse({"previous_response_id", "conversation"}, "nothing is kept here, send the whole input");
  fields.refuse({"prompt"}, "there are no stored prompts here, use instructions and input");
  if (fields.boolean("background").value_or(false))
    throw bad_request("background", "background is not supported: nothing is kept here.");

  TurnList turns;
  if (const auto instructions = fields.text("instructions"); instructions && !instructions->empty())
    turns.system(*instructions);
  turns.part();
  const Json* input = fields.get("input");
  if (!input || !(input->is_string() || input->is_array())) fields.wrong("input", "a text or an array of items");
  read_input(*input, turns);
  if (turns.empty()) fields.wrong("input", "a text or an array of at least one item");
  request.prompt = Conversation{turns.text(), ""};

  const Tools tools = read_responses_tools(fields, request);
  read_responses_tool_choice(fields, tools, request);
  request.parallel_tool_calls = fields.boolean("parallel_tool_calls").value_or(true);
  request.max_tokens = read_max_tokens(fields, "max_output_tokens");
  read_sampling(fields, request);
  if (const Json* reasoning = fields.object("reasoning")) {
    Fields inside(*reasoning, fields.path("reasoning"));
    read_effort(inside, "effort", request);
    inside.skip({"summary", "generate_summary"});
    note_unread(inside, request);
  }
  read_template_arguments(fields, request);
  if (const Json* text = fields.object("text")) {
    Fields inside(*text, fields.path("text"));
    read_format(inside, "format", false, request);
    note_unread(inside, request);
  }
  if (const auto most_likely = fields.integer("top_logprobs", 0, 20); most_likely.value_or(0) > 0)
    request.top_logprobs = static_cast<int>(*most_likely);
  if (const Json* include = fields.array("include")) {
    for (const Json& one : *include) {
      if (!one.is_string()) fields.wrong("include", "an array of strings");
      if (one == "message.output_text.logprobs")
        request.top_logprobs = request.top_logprobs.value_or(0);
      else
        note(request.ignored, "include: " + one.get<std::string>());
    }
  }
  read_stream(fields, request);
  read_tqkv(fields, request);
  refuse_foreign_grammars(fields);
  note_store(fields, request);
  if (fields.text("truncation").value_or("disabled") != "disabled") note(request.ignored, "truncation");
  fields.skip({"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
               "prompt_cache_options", "client_metadata"});
  note_unread(fields, request);
  request.given_back = repeated(fields, request);
  return request;
}

}  // namespace tqkv::server
