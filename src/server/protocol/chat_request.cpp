// The body of /v1/chat/completions.
#include <fmt/format.h>

#include "server/protocol/request.h"
#include "server/protocol/request_parts.h"

namespace tqkv::server {
namespace {

constexpr std::string_view roles = "system, developer, user, assistant or tool";

Json read_calls(const Json& calls, const std::string& where) {
  Json read = Json::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    Fields call(calls[i], fmt::format("{}[{}]", where, i));
    const Json* function = call.object("function");
    if (!function) call.wrong("function", "an object; only functions can be called");
    Fields inside(*function, call.path("function"));
    const std::string name = inside.required_text("name");
    const Json* given = inside.get("arguments");
    Json arguments = Json::object();
    if (given && given->is_object()) {
      arguments = *given;
    } else if (given) {
      arguments = read_arguments(inside.required_text("arguments"), inside.path("arguments"));
    }
    read.push_back({{"function", {{"name", name}, {"arguments", std::move(arguments)}}}});
  }
  return read;
}

Json read_message(const Json& value, const std::string& where) {
  Fields fields(value, where);
  const std::string role = fields.required_text("role");
  if (role != "system" && role != "developer" && role != "user" && role != "assistant" && role != "tool")
    throw bad_request(fields.path("role"),
                      fmt::format("{} must be {}, not {}.", fields.path("role"), roles, in_quotes(role)));
  Json message = {{"role", role == "developer" ? "system" : role}};
  const Json* calls = role == "assistant" ? fields.array("tool_calls") : nullptr;
  const Json* content = fields.get("content");
  const std::string at = fields.path("content");
  if (!content && role != "assistant") fields.wrong("content", "a string or an array of parts");
  message["content"] = role == "assistant" ? read_content(content, at, {"text", "refusal"}, "")
                                           : read_content(content, at, {"text"}, "");
  if (role == "assistant") {
    fields.refuse({"function_call"}, "write tool_calls");
    fields.refuse({"audio"}, "this model reads text");
    std::optional<std::string> reasoning = fields.text("reasoning_content");
    if (!reasoning) reasoning = fields.text("reasoning");
    if (reasoning) message["reasoning_content"] = *reasoning;
    if (calls && !calls->empty()) message["tool_calls"] = read_calls(*calls, fields.path("tool_calls"));
  }
  if (role == "tool") fields.text("tool_call_id");
  return message;
}

Tools read_chat_tools(Fields& fields) {
  Tools tools;
  const Json* list = fields.array("tools");
  for (std::size_t i = 0; list && i < list->size(); ++i) {
    Fields tool((*list)[i], fmt::format("{}[{}]", fields.path("tools"), i));
    const std::string type = tool.required_text("type");
    if (type != "function")
      throw bad_request(tool.path("type"),
                        fmt::format("{} must be function, not {}.", tool.path("type"), in_quotes(type)));
    const Json* function = tool.object("function");
    if (!function) tool.wrong("function", "an object");
    Fields inside(*function, tool.path("function"));
    inside.text("description");
    inside.object("parameters");
    inside.boolean("strict");
    tools.add((*list)[i], inside.required_text("name"), inside.path("name"));
  }
  return tools;
}

void read_chat_tool_choice(Fields& fields, const Tools& tools, Request& request) {
  const std::string where = fields.path("tool_choice");
  const Json* choice = fields.get("tool_choice");
  if (choice && choice->is_object()) {
    Fields inside(*choice, where);
    const std::string type = inside.required_text("type");
    const Json* function = inside.object("function");
    if (type != "function" || !function)
      throw bad_request(where, where + " must be auto, none, required or name a function.");
    return choose_tool(ToolChoice::named, Fields(*function, inside.path("function")).required_text("name"), where,
                       tools, request);
  }
  read_tool_word(fields, tools, request);
}

}  // namespace

Request parse_chat(std::string_view body) {
  const Json top = parse_json(body);
  Fields fields(top);
  Request request;
  request.model = fields.text("model").value_or("");

  const Json* messages = fields.array("messages");
  if (!messages || messages->empty()) fields.wrong("messages", "an array of at least one message");
  Json read = Json::array();
  for (std::size_t i = 0; i < messages->size(); ++i)
    read.push_back(read_message((*messages)[i], fmt::format("messages[{}]", i)));
  request.continues = fields.boolean("continue_final_message").value_or(false);
  if (request.continues && read.back()["role"] != "assistant")
    throw bad_request("continue_final_message", "continue_final_message wants an assistant's message at the end.");
  request.prompt = Conversation{print(read), ""};

  read_chat_tool_choice(fields, read_chat_tools(fields), request);
  request.parallel_tool_calls = fields.boolean("parallel_tool_calls").value_or(true);
  read_effort(fields, "reasoning_effort", request);
  read_template_arguments(fields, request);
  read_sampling(fields, request);
  read_stop(fields, "stop", request);
  read_logit_bias(fields, request);
  request.max_tokens = read_max_tokens(fields, "max_tokens");
  if (fields.get("max_completion_tokens")) request.max_tokens = read_max_tokens(fields, "max_completion_tokens");
  request.n = static_cast<int>(fields.integer("n", 1, most_choices).value_or(1));
  read_stream(fields, request);
  read_format(fields, "response_format", true, request);
  read_tqkv(fields, request);

  const std::optional<std::int64_t> most_likely = fields.integer("top_logprobs", 0, 20);
  if (fields.boolean("logprobs").value_or(false)) request.top_logprobs = static_cast<int>(most_likely.value_or(0));
  if (most_likely.value_or(0) > 0 && !request.top_logprobs)
    throw bad_request("top_logprobs", "top_logprobs wants logprobs to be true.");

  if (const Json* modalities = fields.array("modalities"))
    if (*modalities != Json::array({"text"})) fields.wrong("modalities", "[\"text\"]: this model writes text");
  fields.refuse({"audio"}, "this model writes text");
  fields.refuse({"functions", "function_call"}, "use tools and tool_choice");
  fields.refuse({"web_search_options"}, "there is no search here");
  refuse_foreign_grammars(fields);
  fields.skip(
      {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"});
  note_store(fields, request);
  note_unread(fields, request);
  return request;
}

}  // namespace tqkv::server
