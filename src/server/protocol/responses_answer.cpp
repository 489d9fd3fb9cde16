#include "server/protocol/responses_answer.h"

#include <fmt/format.h>

namespace tqkv::server {
namespace {

Json content_of(bool thinking, const std::string& text, const std::vector<TokenLogprob>& logprobs) {
  if (thinking) return {{"type", "reasoning_text"}, {"text", text}};
  return {
      {"type", "output_text"}, {"text", text}, {"annotations", Json::array()}, {"logprobs", openai_logprobs(logprobs)}};
}

bool is_cut(Ending ending) {
  return ending != Ending::end_of_turn && ending != Ending::stop_string;
}

}  // namespace

std::string ResponsesAnswer::event(std::string_view type, const Json& more) {
  Json data = {{"type", type}, {"sequence_number", sequence_++}};
  data.update(more);
  return event_text(data, type);
}

std::string ResponsesAnswer::item_id(std::size_t index) const {
  const Kind kind = at(0).parts[index].kind;
  return fmt::format("{}{}x{}", kind == Kind::thinking ? "rs_" : kind == Kind::text ? "msg_" : "fc_", head_.id, index);
}

Json ResponsesAnswer::item(std::size_t index, std::string_view status) const {
  const Part& part = at(0).parts[index];
  const bool begins = status == "in_progress";
  Json out = {{"id", item_id(index)}};
  if (part.kind == Kind::call) {
    out.update({{"type", "function_call"},
                {"status", status},
                {"call_id", part.id},
                {"name", part.name},
                {"arguments", begins ? "" : part.text}});
    return out;
  }
  Json content = Json::array();
  if (!begins) content.push_back(content_of(part.kind == Kind::thinking, part.text, part.logprobs));
  if (part.kind == Kind::thinking) {
    out.update({{"type", "reasoning"}, {"summary", Json::array()}, {"content", std::move(content)}});
  } else {
    out.update({{"type", "message"}, {"status", status}, {"role", "assistant"}, {"content", std::move(content)}});
  }
  return out;
}

Json ResponsesAnswer::response(std::string_view status) const {
  Json out = {{"id", "resp_" + head_.id}, {"object", "response"},   {"created_at", head_.created},
              {"status", status},         {"error", nullptr},       {"incomplete_details", nullptr},
              {"model", head_.model},     {"output", Json::array()}};
  if (!head_.given_back.empty()) out.update(Json::parse(head_.given_back));
  out["usage"] = nullptr;
  return out;
}

Json ResponsesAnswer::whole(const AnswerReport& report) const {
  const Choice& choice = at(0);
  const bool cut = is_cut(choice.ending);
  Json out = response(cut ? "incomplete" : "completed");
  if (cut) out["incomplete_details"] = {{"reason", "max_output_tokens"}};
  for (std::size_t i = 0; i < choice.parts.size(); ++i) {
    const bool broken =
        choice.parts[i].kind == Kind::call ? !choice.parts[i].whole : cut && i + 1 == choice.parts.size();
    out["output"].push_back(item(i, broken ? "incomplete" : "completed"));
  }
  out["usage"] = {{"input_tokens", usage_.prompt},
                  {"input_tokens_details", {{"cached_tokens", usage_.cached}}},
                  {"output_tokens", usage_.completion},
                  {"output_tokens_details", {{"reasoning_tokens", usage_.reasoning}}},
                  {"total_tokens", usage_.prompt + usage_.completion}};
  out["tqkv"] = ours(report);
  return out;
}

std::string ResponsesAnswer::on_begin() {
  return event("response.created", {{"response", response("in_progress")}});
}

std::string ResponsesAnswer::about_item(std::string_view type, Json more) {
  const std::size_t index = at(0).parts.size() - 1;
  Json data = {{"item_id", item_id(index)}, {"output_index", index}};
  data.update(more);
  return event(type, data);
}

std::string ResponsesAnswer::about_content(std::string_view type, Json more) {
  Json data = {{"content_index", 0}};
  data.update(more);
  return about_item(type, std::move(data));
}

std::string ResponsesAnswer::on_open(int choice) {
  const std::size_t index = at(choice).parts.size() - 1;
  const Kind kind = at(choice).parts[index].kind;
  std::string out =
      event("response.output_item.added", {{"output_index", index}, {"item", item(index, "in_progress")}});
  if (kind != Kind::call)
    out += about_content("response.content_part.added", {{"part", content_of(kind == Kind::thinking, "", {})}});
  return out;
}

std::string ResponsesAnswer::on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) {
  switch (at(choice).parts.back().kind) {
    case Kind::thinking:
      return about_content("response.reasoning_text.delta", {{"delta", text}});
    case Kind::text:
      return about_content("response.output_text.delta", {{"delta", text}, {"logprobs", openai_logprobs(logprobs)}});
    default:
      return about_item("response.function_call_arguments.delta", {{"delta", text}});
  }
}

std::string ResponsesAnswer::on_close(int choice) {
  const std::size_t index = at(choice).parts.size() - 1;
  const Part& part = at(choice).parts[index];
  const bool thinking = part.kind == Kind::thinking;
  std::string out;
  if (part.kind == Kind::call) {
    out = about_item("response.function_call_arguments.done", {{"name", part.name}, {"arguments", part.text}});
  } else {
    out = thinking ? about_content("response.reasoning_text.done", {{"text", part.text}})
                   : about_content("response.output_text.done",
                                   {{"text", part.text}, {"logprobs", openai_logprobs(part.logprobs)}});
    out += about_content("response.content_part.done", {{"part", content_of(thinking, part.text, part.logprobs)}});
  }
  const bool broken = part.kind == Kind::call ? !part.whole : is_cut(at(choice).ending);
  return out + event("response.output_item.done",
                     {{"output_index", index}, {"item", item(index, broken ? "incomplete" : "completed")}});
}

std::string ResponsesAnswer::on_end(int last_choice, const AnswerReport& report) {
  return event(is_cut(at(last_choice).ending) ? "response.incomplete" : "response.completed",
               {{"response", whole(report)}});
}

std::string ResponsesAnswer::on_fail(const ApiError& error) {
  Json failed = response("failed");
  const char* code = error.status == 429  ? "rate_limit_exceeded"
                     : error.status < 500 ? "invalid_prompt"
                                          : "server_error";
  failed["error"] = {{"code", error.code.value_or(code)}, {"message", error.what()}};
  return event("response.failed", {{"response", std::move(failed)}});
}

}  // namespace tqkv::server
