#include "server/protocol/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace tqkv::server {
namespace {

const char* name_of(Ending ending) {
  switch (ending) {
    case Ending::end_of_turn:
      return "end_of_turn";
    case Ending::stop_string:
      return "stop_string";
    case Ending::max_tokens:
      return "max_tokens";
    case Ending::context:
      return "context";
    default:
      return "memory";
  }
}

Json number_or_null(const std::optional<double>& number) {
  return number && std::isfinite(*number) ? Json(std::round(*number * 1000) / 1000) : Json(nullptr);
}

Json logprob_of(const std::string& bytes, double logprob) {
  Json values = Json::array();
  for (const char byte : bytes) values.push_back(static_cast<unsigned char>(byte));
  // JSON has no infinity; -9999 is the protocol's word for it.
  return {{"token", bytes}, {"logprob", std::max(logprob, -9999.0)}, {"bytes", std::move(values)}};
}

}  // namespace

AnswerWriter::AnswerWriter(AnswerHead head)
    : head_(std::move(head)), choices_(static_cast<std::size_t>(std::max(head_.n, 1))) {}

std::string AnswerWriter::begin(const AnswerUsage& usage) {
  usage_ = usage;
  begun_ = true;
  return head_.stream ? on_begin() : "";
}

std::string AnswerWriter::close(int choice) {
  Choice& state = of(choice);
  if (!state.open) return {};
  state.open = false;
  return head_.stream ? on_close(choice) : "";
}

std::string AnswerWriter::add(int choice, Kind kind, std::string_view text, const std::vector<TokenLogprob>& logprobs) {
  Choice& state = of(choice);
  std::string out;
  if (!state.open || state.parts.back().kind != kind) {
    out = close(choice);
    state.parts.push_back({kind, {}, {}, {}, false, {}});
    state.open = true;
    if (head_.stream) out += on_open(choice);
  }
  Part& part = state.parts.back();
  part.text += text;
  part.logprobs.insert(part.logprobs.end(), logprobs.begin(), logprobs.end());
  return head_.stream ? out + on_piece(choice, text, logprobs) : "";
}

std::string AnswerWriter::thinking(int choice, std::string_view text) {
  return add(choice, Kind::thinking, text, {});
}

std::string AnswerWriter::text(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) {
  return add(choice, Kind::text, text, logprobs);
}

std::string AnswerWriter::call_begin(int choice, std::string_view name) {
  std::string out = close(choice);
  Choice& state = of(choice);
  std::string id = fmt::format("{}{}x{}x{}", call_prefix(), head_.id, choice, state.calls());
  state.parts.push_back({Kind::call, {}, std::move(id), std::string(name), false, {}});
  state.open = true;
  return head_.stream ? out + on_open(choice) : "";
}

std::string AnswerWriter::call_arguments(int choice, std::string_view json) {
  return add(choice, Kind::call, json, {});
}

std::string AnswerWriter::call_end(int choice) {
  of(choice).parts.back().whole = true;
  return close(choice);
}

std::string AnswerWriter::finish(int choice, Ending ending, std::string_view stop_string) {
  Choice& state = of(choice);
  state.ending = ending;  // before its last part is closed, which may say how
  std::string out = close(choice);
  state.finished = true;
  state.stop_string = std::string(stop_string);
  last_ = choice;
  const bool is_last = std::all_of(choices_.begin(), choices_.end(), [](const Choice& one) { return one.finished; });
  return head_.stream && !is_last ? out + on_finish(choice) : out;
}

std::string AnswerWriter::end(const AnswerUsage& usage, const AnswerReport& report) {
  usage_ = usage;
  return head_.stream ? on_end(last_, report) : print(whole(report));
}

std::string AnswerWriter::fail(const ApiError& error) {
  return head_.stream ? on_fail(error) : whole_error(error);
}

std::string AnswerWriter::heartbeat() const {
  if (!head_.stream) return {};
  return begun_ ? on_silence() : ":\n\n";
}

std::string AnswerWriter::on_open(int) {
  return {};
}

std::string AnswerWriter::on_close(int) {
  return {};
}

int AnswerWriter::Choice::calls() const {
  return static_cast<int>(
      std::count_if(parts.begin(), parts.end(), [](const Part& part) { return part.kind == Kind::call; }));
}

bool AnswerWriter::Choice::asks_tools() const {
  return std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.whole; });
}

std::string AnswerWriter::Choice::text(Kind kind) const {
  std::string all;
  for (const Part& part : parts)
    if (part.kind == kind) all += part.text;
  return all;
}

Json AnswerWriter::ours(const AnswerReport& report) const {
  Json endings = Json::array();
  for (const Choice& choice : choices_) endings.push_back(name_of(choice.ending));
  Json object = {{"cache", report.cache},
                 {"seed", report.seed},
                 {"prompt_tps", number_or_null(report.prompt_tps)},
                 {"generation_tps", number_or_null(report.generation_tps)},
                 {"queue_s", number_or_null(report.queue_s)},
                 {"stopped_by", endings.size() == 1 ? endings[0] : endings}};
  if (report.reuse) {
    object["reuse"] = {{"from", report.reuse->from}, {"parted_at", report.reuse->parted_at}};
    if (!report.reuse->exact) object["reuse"]["exact"] = false;
  }
  return object;
}

std::string event_text(const Json& data, std::string_view name) {
  std::string out;
  if (!name.empty()) out = fmt::format("event: {}\n", name);
  return out + "data: " + print(data) + "\n\n";
}

std::string openai_reason(Ending ending, bool has_calls) {
  if (ending != Ending::end_of_turn && ending != Ending::stop_string) return "length";
  return has_calls ? "tool_calls" : "stop";
}

Json openai_usage(const AnswerUsage& usage) {
  return {{"prompt_tokens", usage.prompt},
          {"completion_tokens", usage.completion},
          {"total_tokens", usage.prompt + usage.completion},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning}}}};
}

Json openai_logprobs(const std::vector<TokenLogprob>& tokens) {
  Json list = Json::array();
  for (const TokenLogprob& token : tokens) {
    Json one = logprob_of(token.bytes, token.logprob);
    one["top_logprobs"] = Json::array();
    for (const auto& [bytes, logprob] : token.top) one["top_logprobs"].push_back(logprob_of(bytes, logprob));
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace tqkv::server
