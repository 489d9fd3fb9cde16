#include "tqkv/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "generation/allowed_ids.h"
#include "generation/held_answer.h"
#include "generation/think_splitter.h"
#include "tqkv/error.h"
#include "tqkv/sampling.h"

namespace tqkv {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

std::optional<double> rate(int count, Clock::duration time) {
  if (count <= 0 || time <= Clock::duration::zero()) return std::nullopt;
  return count / seconds(time);
}

GenerateOptions checked(const GenerateOptions& options) {
  check(options.sampling);
  return options;
}

std::vector<int> checked(const Session& session, std::span<const int> prompt) {
  if (prompt.empty() && session.logits().empty())
    throw Error(ErrorKind::input, "prompt: has no tokens: give some text");
  const int room = session.context() - session.position();
  if (prompt.size() > static_cast<std::size_t>(room))
    throw Error(ErrorKind::input,
                fmt::format("prompt: {} tokens, but the context has room for {}: shorten it or give a larger context",
                            prompt.size(), room));
  return {prompt.begin(), prompt.end()};
}

}  // namespace

struct Generation::State {
  State(Session& fed, const Tokenizer& own, std::span<const int> asked, const GenerateOptions& given, TextSink to)
      : options(checked(given)),
        sink(std::move(to)),
        session(fed),
        tokenizer(own),
        prompt(checked(fed, asked)),
        ends(options.cuts.ends(fed.ids(), prompt)),
        begin(fed.position()),
        splitter(own, options, sink) {
    if (options.grammar) held.emplace(options, tokenizer);
    if (!options.allowed.empty()) make_sampler(std::move(options.allowed));
  }

  /// The cuts of `count` ids of the prompt from read() on.
  void cut(int count) {
    const int from = static_cast<int>(read());
    const auto inside = [&](const std::vector<int>& all, bool with_end) {
      std::vector<int> own;
      for (const int at : all)
        if (at > from && (at < from + count || (with_end && at == from + count))) own.push_back(at - from);
      return own;
    };
    next_ends = inside(ends, false);
    next_kept = inside(options.kept, true);
    pieces = {next_ends, next_kept, options.keep};
  }

  std::size_t read() const { return static_cast<std::size_t>(session.position() - begin); }
  bool reading() const { return ids.empty() && read() < prompt.size(); }
  bool cancelled() const { return options.cancel != nullptr && options.cancel->load(); }

  void make_sampler(std::vector<bool> allowed) {
    sampler.emplace(options.sampling, std::move(allowed));
    if (held) sampler->hold([this](int id, std::size_t vocab) { return held->instead_of(id, vocab); });
    sampler->prompt(session.ids());
    sampler->prompt(std::span(prompt).subspan(read()));
  }

  /// A step has brought what the next id is drawn from, or that id.
  void end_step() {
    const Clock::time_point now = Clock::now();
    if (ids.empty()) {
      reading_time = now - start;
    } else {
      decoding += now - step_start;
      ++steps;
    }
  }

  void finish(FinishReason why) {
    if (!ids.empty()) splitter.finish();
    reason = why;
    end = Clock::now();
  }

  void take(int id) {
    if (ids.empty()) first_token = Clock::now() - start;
    ids.push_back(id);
    if (held) held->take(id);
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end())
      return finish(FinishReason::stop);
    splitter.push(id);
    if (!splitter.stop_string().empty()) return finish(FinishReason::stop);
    if (held && options.stop_ids.empty() && held->must_end()) return finish(FinishReason::stop);
    if (options.max_tokens > 0 && static_cast<int>(ids.size()) >= options.max_tokens)
      return finish(FinishReason::length);
    if (session.position() >= session.context()) return finish(FinishReason::context);
    if (cancelled()) finish(FinishReason::cancelled);
  }

  GenerateOptions options;
  TextSink sink;
  Session& session;
  const Tokenizer& tokenizer;
  std::vector<int> prompt;
  std::vector<int> ends;  // of its pieces
  int begin;              // position before the prompt
  std::vector<int> next_ends, next_kept;
  Pieces pieces;  // of what next() gave
  ThinkSplitter splitter;
  std::optional<Sampler> sampler;  // from the first logits on, or earlier where the allowed ids are given

  std::optional<HeldAnswer> held;  // to a grammar

  std::vector<int> ids;
  std::optional<FinishReason> reason;
  std::string stopped_by;

  Clock::time_point start = Clock::now(), step_start = start, end = start;
  std::optional<Clock::duration> reading_time, first_token;
  Clock::duration decoding{};
  int steps = 0;
};

Generation::Generation(Session& session, const Tokenizer& tokenizer, std::span<const int> prompt,
                       const GenerateOptions& options, TextSink sink)
    : state_(std::make_unique<State>(session, tokenizer, prompt, options, std::move(sink))) {}
Generation::Generation(Generation&&) noexcept = default;
Generation& Generation::operator=(Generation&&) noexcept = default;
Generation::~Generation() = default;

bool Generation::finished() const {
  return state_->reason.has_value();
}

std::span<const int> Generation::next(int most) {
  State& state = *state_;
  state.step_start = Clock::now();
  state.pieces = {};
  if (!state.ids.empty()) return std::span(state.ids).last(1);
  const std::span<const int> left = std::span(state.prompt).subspan(state.read());
  if (left.empty()) return left;
  state.cut(static_cast<int>(left.size()));
  const int count = state.pieces.next_pass(static_cast<int>(left.size()), 0, std::max(most, 1));
  state.cut(count);
  return left.first(static_cast<std::size_t>(count));
}

std::span<const int> Generation::all() {
  State& state = *state_;
  if (!state.ids.empty()) return next();
  const std::span<const int> left = std::span(state.prompt).subspan(state.read());
  state.step_start = Clock::now();
  state.cut(static_cast<int>(left.size()));
  return left;
}

const Pieces& Generation::pieces() const {
  return state_->pieces;
}

std::span<const int> Generation::ids() const {
  return state_->ids;
}

bool Generation::reading() const {
  return state_->reading();
}

Work Generation::work(int most, Want want) {
  State& state = *state_;
  Work work;
  work.session = &state.session;
  work.ids = next(most);
  work.pieces = state.pieces;
  if (state.reading() && state.read() + work.ids.size() < state.prompt.size()) {
    work.want = Want::nothing;
    return work;
  }
  if (want == Want::id && !state.sampler)
    throw Error(ErrorKind::internal, "generation: a step draws ids only where the allowed ones are given");
  work.want = want;
  if (want == Want::id) work.sampler = &*state.sampler;
  return work;
}

void Generation::accept(const Work& done) {
  if (done.error) return refuse(*done.error);
  if (state_->ids.empty() && !read_part() && state_->reading()) cancel();
  if (finished() || done.want == Want::nothing) return;
  if (done.want == Want::id)
    accept(done.id);
  else
    accept(done.logits);
}

void Generation::accept(std::span<const float> logits) {
  State& state = *state_;
  state.end_step();
  if (!state.sampler) state.make_sampler(ids_with_token(state.tokenizer, static_cast<int>(logits.size())));
  state.take(state.sampler->next(logits, static_cast<std::uint64_t>(state.session.position())));
}

void Generation::accept(int id) {
  state_->end_step();
  state_->take(id);
}

Sampler& Generation::sampler() {
  if (!state_->sampler) throw Error(ErrorKind::internal, "generation: nothing was drawn yet");
  return *state_->sampler;
}

int Generation::left() const {
  const State& state = *state_;
  const int room = state.session.context() - state.session.position();
  const int wanted = state.options.max_tokens - static_cast<int>(state.ids.size());
  return state.options.max_tokens > 0 ? std::min(room, wanted) : room;
}

void Generation::refuse(const Error& error) {
  if (error.kind() != ErrorKind::memory || state_->ids.empty()) throw error;
  state_->stopped_by = error.what();
  state_->finish(FinishReason::memory);
}

bool Generation::read_part() {
  const State& state = *state_;
  if (state.options.progress)
    state.options.progress(static_cast<int>(state.read()), static_cast<int>(state.prompt.size()));
  return !state.cancelled();
}

void Generation::cancel() {
  if (!finished()) state_->finish(FinishReason::cancelled);
}

GenerateResult Generation::result() const {
  const State& state = *state_;
  GenerateResult result;
  result.thinking = state.splitter.text(Part::thinking);
  result.answer = state.splitter.text(Part::answer);
  result.ids = state.ids;
  result.reason = state.reason.value_or(FinishReason::cancelled);
  result.stop_string = state.splitter.stop_string();
  result.stopped_by = state.stopped_by;
  result.ended_thinking = state.splitter.thinking();
  result.cache = state.session.cache();
  GenerateStatistics& statistics = result.statistics;
  const Clock::time_point end = state.reason ? state.end : Clock::now();
  const std::size_t read = state.reading_time ? state.prompt.size() : state.read();
  statistics.prompt_tokens = static_cast<int>(read);
  statistics.prompt_tps = rate(statistics.prompt_tokens, state.reading_time.value_or(end - state.start));
  statistics.generated_tokens = static_cast<int>(state.ids.size());
  statistics.generation_tps = rate(state.steps, state.decoding);
  if (state.first_token) statistics.time_to_first_token = seconds(*state.first_token);
  statistics.wall = seconds(end - state.start);
  return result;
}

}  // namespace tqkv
