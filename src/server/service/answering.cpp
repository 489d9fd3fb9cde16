#include "server/service/answering.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error_text.h"
#include "server/service/prepare.h"

namespace tqkv::server {
namespace {

/// Of a request's own.
std::string_view stop_string_of(const GenerateResult& result) {
  return result.stop_string == end_of_call ? std::string_view() : std::string_view(result.stop_string);
}

Ending ending_of(const GenerateResult& result) {
  switch (result.reason) {
    case FinishReason::stop:
      return stop_string_of(result).empty() ? Ending::end_of_turn : Ending::stop_string;
    case FinishReason::context:
      return Ending::context;
    case FinishReason::memory:
      return Ending::memory;
    case FinishReason::length:
    case FinishReason::cancelled:
      break;
  }
  return Ending::max_tokens;
}

ApiError error_of(const Error& error) {
  const std::string problem(problem_of(error));
  if (error.kind() == ErrorKind::memory) return {503, "overloaded_error", problem};
  if (error.kind() == ErrorKind::input || error.kind() == ErrorKind::usage) return bad_request({}, problem);
  return {500, "api_error", problem};
}

}  // namespace

/// One job's part of the answer: its choices come behind those of the jobs before it.
class Answering::Voice final : public Listener {
 public:
  Voice(std::shared_ptr<Answering> answering, int first) : answering_(std::move(answering)), first_(first) {}
  void queued(int place) override { answering_->queued(place); }
  void started(int reused, int parted_at, bool exact) override { answering_->started({reused, parted_at, exact}); }
  void read(int done, int total) override { answering_->read(done, total); }
  void text(int choice, Part part, std::string_view text) override { answering_->text(first_ + choice, part, text); }
  void chosen(int choice, const TokenChoice& token) override { answering_->chosen(first_ + choice, token); }
  void finished(int choice, const GenerateResult& result) override { answering_->finished(first_ + choice, result); }
  void done() override { answering_->done(); }
  void failed(const Error& error) override { answering_->failed(error); }
  bool full() const override { return answering_->exchange_->full(); }

 private:
  std::shared_ptr<Answering> answering_;
  int first_;
};

Answering::Answering(std::shared_ptr<http::Exchange> exchange, const Tokenizer& tokenizer, Setup setup, Closed closed)
    : exchange_(std::move(exchange)), tokenizer_(tokenizer), setup_(std::move(setup)), closed_(std::move(closed)) {
  const Endpoint endpoint = setup_.route == Route::completions ? Endpoint::completion
                            : setup_.route == Route::responses ? Endpoint::responses
                            : setup_.route == Route::messages  ? Endpoint::messages
                                                               : Endpoint::chat;
  writer_ = AnswerWriter::make(endpoint, setup_.head);
  account_.id = setup_.id;
  account_.route = setup_.route;
  report_.cache = setup_.cache;
  report_.seed = setup_.seed;
}

Answering::~Answering() {
  account_.gone = !over_;
  close(!over_);
}

void Answering::attach(const std::vector<std::shared_ptr<Job>>& jobs) {
  int choices = 0;
  for (const auto& job : jobs) {
    job->listener = std::make_shared<Voice>(shared_from_this(), choices);
    jobs_.push_back(job);
    choices += job->choices;
    usage_.prompt += static_cast<int>(job->prompt.size());
  }
  for (std::size_t i = 0; i < jobs.size(); ++i)
    for (int choice = 0; choice < jobs[i]->choices; ++choice) {
      heard_.emplace_back(setup_.tools);
      if (!setup_.echoes.empty()) heard_.back().echo = setup_.echoes[i];
    }
  open_ = unstarted_ = static_cast<int>(jobs.size());
  account_.prompt = usage_.prompt;
  if (writer_->head().stream) exchange_->begin_stream({}, writer_->heartbeat());
}

void Answering::refuse(const ApiError& error) {
  if (std::exchange(over_, true)) return;
  if (writer_->head().stream && !jobs_.empty()) {  // its headers are sent
    exchange_->send(writer_->fail(error));
    exchange_->end();
  } else {
    exchange_->answer(answer_of(error, setup_.route));
  }
  for (const auto& one : jobs_)
    if (const auto job = one.lock()) job->cancelled = true;
  close(true);
}

double Answering::since_start() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Answering::comment(const std::string& text) {
  if (writer_->head().stream && !over_) exchange_->send(": " + text + "\n\n");
}

void Answering::queued(int place) {
  if (place == std::exchange(last_place_, place)) return;
  comment(fmt::format("queue {}", place));
}

void Answering::started(const Reuse& reuse) {
  usage_.cached += reuse.from;
  account_.reused += reuse.from;
  account_.parted_at = reuse.parted_at;
  if (!report_.reuse || reuse.from > report_.reuse->from) report_.reuse = reuse;
  if (--unstarted_ > 0) return;
  account_.queued_s = since_start();
  report_.queue_s = account_.queued_s;
}

void Answering::read(int done, int total) {
  comment(fmt::format("prompt {}/{}", done, total));
}

void Answering::send(std::string text) {
  if (!over_ && writer_->head().stream && !text.empty()) exchange_->send(std::move(text));
}

void Answering::begin(int choice) {
  if (!std::exchange(begun_, true)) {
    account_.first_token_s = since_start();
    send(writer_->begin(usage_));
  }
  Heard& heard = heard_[static_cast<std::size_t>(choice)];
  if (!heard.echo.empty()) send(writer_->text(choice, std::exchange(heard.echo, {})));
}

void Answering::text(int choice, Part part, std::string_view text) {
  if (over_) return;
  begin(choice);
  Heard& heard = heard_[static_cast<std::size_t>(choice)];
  if (part == Part::thinking) {
    heard.tokens.clear();
    return send(writer_->thinking(choice, text));
  }
  if (setup_.head.logprobs)
    heard.text += text;
  else
    say(choice, text);
}

void Answering::say(int choice, std::string_view text) {
  say(choice, heard_[static_cast<std::size_t>(choice)].splitter.feed(text));
}

void Answering::say(int choice, const std::vector<ToolEvent>& events) {
  Heard& heard = heard_[static_cast<std::size_t>(choice)];
  std::string out;
  for (const ToolEvent& event : events) {
    if (event.kind == ToolEvent::Kind::text)
      out += writer_->text(choice, event.text, std::exchange(heard.tokens, {}));
    else
      out += write(*writer_, choice, {event});
  }
  send(std::move(out));
}

TokenLogprob Answering::named(const TokenChoice& token) const {
  TokenLogprob named{std::string(tokenizer_.bytes(token.id)), token.logprob, {}};
  for (const auto& [id, logprob] : token.top) named.top.emplace_back(std::string(tokenizer_.bytes(id)), logprob);
  return named;
}

void Answering::chosen(int choice, const TokenChoice& token) {
  if (over_) return;
  Heard& heard = heard_[static_cast<std::size_t>(choice)];
  if (!tokenizer_.special(token.id)) heard.tokens.push_back(named(token));
  if (!heard.text.empty()) say(choice, std::exchange(heard.text, {}));
}

void Answering::finished(int choice, const GenerateResult& result) {
  if (over_) return;
  begin(choice);
  Heard& heard = heard_[static_cast<std::size_t>(choice)];
  if (!heard.text.empty()) say(choice, std::exchange(heard.text, {}));
  say(choice, heard.splitter.finish());
  std::string out;
  if (!heard.tokens.empty()) out += writer_->text(choice, {}, std::exchange(heard.tokens, {}));
  out += writer_->finish(choice, ending_of(result), stop_string_of(result));
  send(std::move(out));

  const int tokens = static_cast<int>(result.ids.size());
  usage_.completion += tokens;
  if (setup_.opens_thinking) {
    const auto end = std::ranges::find(result.ids, setup_.think_end.value_or(-1));
    usage_.reasoning += end == result.ids.end() ? tokens : static_cast<int>(end - result.ids.begin()) + 1;
  }
  const GenerateStatistics& figures = result.statistics;
  if (figures.prompt_tps && !report_.prompt_tps) report_.prompt_tps = figures.prompt_tps;
  if (figures.generation_tps) report_.generation_tps = figures.generation_tps;
}

void Answering::done() {
  if (over_ || --open_ > 0) return;
  account_.completion = usage_.completion;
  const std::string last = writer_->end(usage_, report_);
  over_ = true;
  if (writer_->head().stream) {
    exchange_->send(last);
    exchange_->end();
  } else {
    exchange_->answer({200, "application/json", last, {}});
  }
  close(false);
}

void Answering::failed(const Error& error) {
  refuse(error_of(error));
}

void Answering::close(bool failed) {
  if (!closed_) return;
  account_.seconds = since_start();
  account_.failed = failed;
  std::exchange(closed_, {})(account_);
}

}  // namespace tqkv::server
