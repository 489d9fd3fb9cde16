#include "server/protocol/messages_answer.h"

namespace tqkv::server {
namespace {

std::string event(const Json& data) {
  return event_text(data, data.at("type").get_ref<const std::string&>());
}

Json stop_sequence(Ending ending, const std::string& text) {
  return ending == Ending::stop_string ? Json(text) : Json(nullptr);
}

const char* stop_reason(Ending ending, bool asks_tools) {
  if (ending == Ending::stop_string) return "stop_sequence";
  if (ending != Ending::end_of_turn) return "max_tokens";
  return asks_tools ? "tool_use" : "end_turn";
}

}  // namespace

Json MessagesAnswer::usage() const {
  return {{"input_tokens", usage_.prompt - usage_.cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage_.cached},
          {"output_tokens", usage_.completion}};
}

Json MessagesAnswer::message() const {
  return {{"id", "msg_" + head_.id},  {"type", "message"},      {"role", "assistant"},      {"model", head_.model},
          {"content", Json::array()}, {"stop_reason", nullptr}, {"stop_sequence", nullptr}, {"usage", usage()}};
}

/// A block of content; `empty`: as it begins.
Json MessagesAnswer::block(const Part& part, bool empty) const {
  const std::string text = empty ? "" : part.text;
  switch (part.kind) {
    case Kind::thinking:
      return {{"type", "thinking"}, {"thinking", text}, {"signature", ""}};
    case Kind::text:
      return {{"type", "text"}, {"text", text}};
    default: {
      Json input = Json::parse(text, nullptr, false);  // of a call that was cut nothing can be read
      if (!input.is_object()) input = Json::object();
      return {{"type", "tool_use"}, {"id", part.id}, {"name", part.name}, {"input", std::move(input)}};
    }
  }
}

std::string MessagesAnswer::on_begin() {
  return event({{"type", "message_start"}, {"message", message()}});
}

std::string MessagesAnswer::on_open(int choice) {
  return event(
      {{"type", "content_block_start"}, {"index", index()}, {"content_block", block(at(choice).parts.back(), true)}});
}

std::string MessagesAnswer::on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>&) {
  Json delta;
  switch (at(choice).parts.back().kind) {
    case Kind::thinking:
      delta = {{"type", "thinking_delta"}, {"thinking", text}};
      break;
    case Kind::text:
      delta = {{"type", "text_delta"}, {"text", text}};
      break;
    default:
      delta = {{"type", "input_json_delta"}, {"partial_json", text}};
  }
  return event({{"type", "content_block_delta"}, {"index", index()}, {"delta", std::move(delta)}});
}

std::string MessagesAnswer::on_close(int) {
  return event({{"type", "content_block_stop"}, {"index", index()}});
}

std::string MessagesAnswer::on_end(int last_choice, const AnswerReport& report) {
  const Choice& choice = at(last_choice);
  return event({{"type", "message_delta"},
                {"delta",
                 {{"stop_reason", stop_reason(choice.ending, choice.asks_tools())},
                  {"stop_sequence", stop_sequence(choice.ending, choice.stop_string)}}},
                {"usage", usage()},
                {"tqkv", ours(report)}}) +
         event({{"type", "message_stop"}});
}

std::string MessagesAnswer::on_fail(const ApiError& error) {
  return "event: error\ndata: " + anthropic_error(error) + "\n\n";
}

std::string MessagesAnswer::on_silence() const {
  return event({{"type", "ping"}});
}

Json MessagesAnswer::whole(const AnswerReport& report) const {
  const Choice& choice = at(0);
  Json out = message();
  for (const Part& part : choice.parts) out["content"].push_back(block(part, false));
  out["stop_reason"] = stop_reason(choice.ending, choice.asks_tools());
  out["stop_sequence"] = stop_sequence(choice.ending, choice.stop_string);
  out["tqkv"] = ours(report);
  return out;
}

}  // namespace tqkv::server
