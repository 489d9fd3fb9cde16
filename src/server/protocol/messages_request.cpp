// The bodies of /v1/messages and /v1/messages/count_tokens.
#include <fmt/format.h>

#include "server/protocol/request.h"
#include "server/protocol/request_parts.h"
#include "server/protocol/turn_list.h"

namespace tqkv::server {
namespace {

constexpr std::string_view billing = "x-anthropic-billing-header:";
/// An agent's line that differs with each request: it would spoil every prompt's beginning, and says nothing to a
/// model.
std::string without_billing(std::string text) {
  if (!text.starts_with(billing)) return text;
  const std::size_t end = text.find('\n');
  return end == std::string::npos ? "" : text.substr(std::min(text.find_first_not_of("\r\n", end), text.size()));
}

std::string read_system(const Json& system, const std::string& where) {
  if (system.is_string()) return without_billing(system.get<std::string>());
  if (!system.is_array()) read_content(&system, where, {"text"}, between_parts);  // says what is wrong
  std::string text;
  for (std::size_t i = 0; i < system.size(); ++i) {
    const Json one = Json::array({system[i]});
    std::string block = read_content(&one, where, {"text"}, between_parts);
    if (block.starts_with(billing)) continue;
    if (!text.empty()) text += between_parts;
    text += block;
  }
  return text;
}

void read_user_block(Fields& block, const std::string& type, TurnList& turns) {
  if (type == "tool_result") {
    block.text("tool_use_id");
    block.boolean("is_error");
    turns.tool_result(read_content(block.get("content"), block.path("content"), {"text"}, between_parts));
  } else if (type == "text") {
    turns.user(block.required_text("text"));
  } else {
    throw bad_request(block.path("type"),
                      fmt::format("{}: a block of type {} cannot be read here. This model reads text.",
                                  block.path("type"), in_quotes(type)));
  }
}

void read_assistant_block(Fields& block, const std::string& type, TurnList& turns) {
  if (type == "thinking") {
    turns.thinking(block.required_text("thinking"));
  } else if (type == "text") {
    turns.answer(block.required_text("text"));
  } else if (type == "tool_use") {
    const std::string name = block.required_text("name");
    const Json* input = block.object("input");
    turns.call(name, input ? *input : Json::object());
  } else if (type != "redacted_thinking") {  // which nobody here can read
    throw bad_request(block.path("type"),
                      fmt::format("{}: a block of type {} cannot be read here.", block.path("type"), in_quotes(type)));
  }
}

void read_message(const Json& value, const std::string& where, TurnList& turns) {
  Fields fields(value, where);
  const std::string role = fields.required_text("role");
  if (role != "user" && role != "assistant" && role != "system")
    throw bad_request(fields.path("role"), fmt::format("{} must be user, assistant or system, not {}.",
                                                       fields.path("role"), in_quotes(role)));
  const Json* content = fields.get("content");
  if (!content || !(content->is_string() || content->is_array()))
    fields.wrong("content", "a string or an array of blocks");
  if (role == "system") return turns.system(read_system(*content, fields.path("content")));
  if (content->is_string()) {
    const std::string& text = content->get_ref<const std::string&>();
    return role == "user" ? turns.user(text) : turns.answer(text);
  }
  for (std::size_t i = 0; i < content->size(); ++i) {
    Fields block((*content)[i], fmt::format("{}[{}]", fields.path("content"), i));
    const std::string type = block.required_text("type");
    role == "user" ? read_user_block(block, type, turns) : read_assistant_block(block, type, turns);
  }
}

Tools read_messages_tools(Fields& fields, Request& request) {
  Tools tools;
  const Json* list = fields.array("tools");
  for (std::size_t i = 0; list && i < list->size(); ++i) {
    Fields tool((*list)[i], fmt::format("{}[{}]", fields.path("tools"), i));
    const std::string type = tool.text("type").value_or("custom");
    if (type != "custom") {
      note(request.skipped_tools, type);
      continue;
    }
    const std::string name = tool.required_text("name");
    Json function = {{"name", name}};
    if (const auto description = tool.text("description")) function["description"] = *description;
    const Json* schema = tool.object("input_schema");
    if (!schema) tool.wrong("input_schema", "an object");
    function["parameters"] = *schema;
    tools.add({{"type", "function"}, {"function", std::move(function)}}, name, tool.path("name"));
  }
  return tools;
}

void read_messages_tool_choice(Fields& fields, const Tools& tools, Request& request) {
  const Json* given = fields.object("tool_choice");
  const std::string where = fields.path("tool_choice");
  if (!given) return choose_tool(ToolChoice::automatic, "", where, tools, request);
  Fields choice(*given, where);
  const std::string type = choice.required_text("type");
  request.parallel_tool_calls = !choice.boolean("disable_parallel_tool_use").value_or(false);
  if (type == "tool") return choose_tool(ToolChoice::named, choice.required_text("name"), where, tools, request);
  if (type != "auto" && type != "any" && type != "none")
    throw bad_request(choice.path("type"),
                      fmt::format("{} must be auto, any, tool or none, not {}.", choice.path("type"), in_quotes(type)));
  choose_tool(type == "any"    ? ToolChoice::required
              : type == "none" ? ToolChoice::none
                               : ToolChoice::automatic,
              "", where, tools, request);
}

/// Thinking is off unless it is asked for, as in the protocol.
void read_thinking(Fields& fields, Request& request) {
  request.think = false;
  const Json* thinking = fields.object("thinking");
  if (!thinking) return;
  Fields inside(*thinking, fields.path("thinking"));
  const std::string type = inside.required_text("type");
  if (type != "enabled" && type != "disabled" && type != "adaptive" && type != "between_tools")
    throw bad_request(inside.path("type"),
                      fmt::format("{} must be enabled, disabled, adaptive or between_tools, not {}.",
                                  inside.path("type"), in_quotes(type)));
  request.think = type != "disabled";
  if (inside.integer("budget_tokens", 0, 1 << 30)) note(request.ignored, inside.path("budget_tokens"));
  inside.skip({"display"});
  note_unread(inside, request);
}

void read_output_config(Fields& fields, Request& request) {
  const Json* config = fields.object("output_config");
  if (!config) return;
  Fields inside(*config, fields.path("output_config"));
  if (inside.text("effort")) note(request.ignored, inside.path("effort"));
  read_format(inside, "format", false, request);
  note_unread(inside, request);
}

Request parse(std::string_view body, bool counts) {
  const Json top = parse_json(body);
  Fields fields(top);
  Request request;
  request.model = fields.text("model").value_or("");
  TurnList turns;
  if (const Json* system = fields.get("system")) {
    const std::string text = read_system(*system, "system");
    if (!text.empty()) turns.system(text);
  }
  turns.part();
  const Json* messages = fields.array("messages");
  if (!messages || messages->empty()) fields.wrong("messages", "an array of at least one message");
  for (std::size_t i = 0; i < messages->size(); ++i)
    read_message((*messages)[i], fmt::format("messages[{}]", i), turns);
  request.continues = turns.ends_with_answer();
  request.prompt = Conversation{turns.text(), ""};

  const Tools tools = read_messages_tools(fields, request);
  read_messages_tool_choice(fields, tools, request);
  read_thinking(fields, request);
  read_output_config(fields, request);
  read_template_arguments(fields, request);
  if (!counts && !fields.get("max_tokens")) fields.wrong("max_tokens", "an integer from 1");
  request.max_tokens = read_max_tokens(fields, "max_tokens");
  read_sampling(fields, request);
  read_stop(fields, "stop_sequences", request);
  request.stream = fields.boolean("stream").value_or(false);
  read_tqkv(fields, request);
  fields.refuse({"container"}, "nothing is run here");
  fields.refuse({"mcp_servers"}, "no server is called from here");
  fields.skip({"metadata", "cache_control", "service_tier", "context_management", "betas"});
  note_unread(fields, request);
  return request;
}

}  // namespace

Request parse_messages(std::string_view body) {
  return parse(body, false);
}

Request parse_count_tokens(std::string_view body) {
  return parse(body, true);
}

}  // namespace tqkv::server
