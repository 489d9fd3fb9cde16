// Scheduler: who takes part in a step, what is promised to whom, and that nothing of it changes an answer.
#include "server/schedule/scheduler.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <rapidcheck.h>

#include <memory>
#include <string>
#include <vector>

#include "server/recording.h"
#include "support/sanitized.h"

using namespace tqkv;
using namespace tqkv::test;
using namespace tqkv::server;

namespace {

SchedulerLimits usual_limits() {
  SchedulerLimits limits;
  limits.context = 2048;
  limits.pass_tokens = 256;
  limits.memory = std::uint64_t{4} << 30;
  limits.prefix_cache = std::uint64_t{200} << 20;
  return limits;
}

/// A clock that goes forward a millisecond each time it is looked at.
Scheduler::Seconds ticks() {
  return [now = std::make_shared<double>(0)] { return *now += 1e-3; };
}

std::unique_ptr<Scheduler> make(const SchedulerLimits& limits) {
  return std::make_unique<Scheduler>(served_model().engine(), served_model().tokenizer(), limits, ticks());
}

void run(Scheduler& scheduler) {
  int turns = 0;
  while (scheduler.turn()) REQUIRE(++turns < 20000);
}

/// Of a request that draws, or is greedy.
std::uint64_t bytes_of(int tokens, int choices = 1, bool draws = true, bool kept = true) {
  Sampling sampling;
  sampling.greedy = !draws;
  return request_bytes(served_model().config(), {cpu_device({}, 1), Precision::fast, {}}, StateType::f32,
                       KvFormat::usual(), {tokens, choices, sampling_bytes(sampling), kept});
}

/// Requests of several kinds, the same for the same number.
Asked seeded(unsigned number) {
  unsigned state = number * 2654435761u + 12345u;
  const auto next = [&](unsigned most) {
    state = state * 1664525u + 1013904223u;
    return (state >> 10) % most;
  };
  std::string text;
  static const char* words[] = {"river",   "stone", "seven",  "a list of", "why is",
                                "the cat", "code:", "please", "9 + 4",     "\\n"};
  for (unsigned i = next(60) + 1; i > 0; --i) text += std::string(words[next(10)]) + " ";
  const std::string system = next(2) ? "You are brief." : "";
  Asked asked = ask(user(text, system), static_cast<int>(next(14)) + 1, number, next(3) ? 1.3f : 0.0f);
  static const char* formats[] = {"default", "baseline", "turboquant", "turboquant:window=20"};
  asked.job->format = KvFormat::parse(formats[next(4)]);
  if (next(3) == 0) asked.job->top_logprobs = 2;
  if (next(4) == 0) asked.job->options.sampling.frequency_penalty = 0.7f;
  if (next(5) == 0) asked.job->options.stop_strings = {"the", "."};
  asked.job->choices = next(6) == 0 ? 2 : 1;
  asked.job->exact = true;
  return asked;
}

/// All that a listener was told of an answer.
std::string told(const Recording& heard) {
  std::string all = fmt::format("{} {};", heard.ends, heard.error_text);
  for (const auto& [choice, result] : heard.results) {
    all += fmt::format("{}: {} {} ", choice, name(result.reason), result.answer);
    for (const int id : result.ids) all += fmt::format("{},", id);
  }
  for (const auto& [choice, text] : heard.texts) all += fmt::format("[{}]", text);
  for (const TokenChoice& token : heard.tokens) {
    all += fmt::format("{}={:a}", token.id, token.logprob);
    for (const auto& [id, logprob] : token.top) all += fmt::format("/{}={:a}", id, logprob);
  }
  return all;
}

}  // namespace

TEST_CASE("answers have the same bits alone, in company, and over a tree that is warm" * doctest::skip(sanitized)) {
  const int count = 40;
  std::vector<std::string> alone;
  for (int i = 0; i < count; ++i) {
    const auto scheduler = make(usual_limits());
    const Asked asked = seeded(static_cast<unsigned>(i));
    REQUIRE(scheduler->problem_of(*asked.job).empty());
    CHECK(scheduler->submit({asked.job}));
    run(*scheduler);
    REQUIRE(asked.heard->ends == 1);
    alone.push_back(told(*asked.heard));
  }
  for (const int pass : {64, 1024}) {
    SchedulerLimits limits = usual_limits();
    limits.parallel = 16;
    limits.pass_tokens = pass;
    const auto scheduler = make(limits);
    for (const char* tree : {"cold", "warm"}) {
      std::vector<Asked> all;
      for (int i = 0; i < count; ++i) all.push_back(seeded(static_cast<unsigned>(i)));
      // In another order, some of them later.
      for (int i = 0; i < count; ++i) {
        CHECK(scheduler->submit({all[static_cast<std::size_t>(i * 37 % count)].job}));
        if (i % 5 == 0) scheduler->turn();
      }
      run(*scheduler);
      for (int i = 0; i < count; ++i) {
        CAPTURE(i);
        CAPTURE(pass);
        CAPTURE(tree);
        CHECK(told(*all[static_cast<std::size_t>(i)].heard) == alone[static_cast<std::size_t>(i)]);
      }
    }
    CHECK(scheduler->state().reused_tokens > 0);
    CHECK(scheduler->state().promised == 0);
  }
}

TEST_CASE("requests are admitted in order, and never more is promised than there is") {
  SchedulerLimits limits = usual_limits();
  limits.parallel = 3;
  limits.prefix_cache = 20'000'000;
  limits.memory = 2 * bytes_of(100) + limits.prefix_cache;
  const auto scheduler = make(limits);
  std::vector<Asked> all;
  for (int i = 0; i < 7; ++i) {
    all.push_back(ask(user("Say " + std::to_string(i)), 10, 1, 0.0f));
    CHECK(scheduler->submit({all.back().job}));
  }
  std::vector<std::size_t> order;
  for (int turns = 0; scheduler->turn(); ++turns) {
    REQUIRE(turns < 1000);
    const SchedulerState state = scheduler->state();
    CHECK(state.promised + state.kept <= limits.memory);
    CHECK(state.kept <= limits.prefix_cache);
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i].heard->reused >= 0 && std::ranges::find(order, i) == order.end()) order.push_back(i);
  }
  CHECK(order == std::vector<std::size_t>{0, 1, 2, 3, 4, 5, 6});
  for (const Asked& asked : all) {
    CHECK(asked.heard->ends == 1);
    CHECK(asked.heard->results.at(0).ids.size() <= 10);
  }
  CHECK_FALSE(all.back().heard->places.empty());
  CHECK(scheduler->state().finished == 7);
}

TEST_CASE("room for a state on its way into the tree is promised until the prompt is read") {
  const auto scheduler = make(usual_limits());
  const Asked asked = ask(user(std::string(600, 'z')), 30, 1, 0.0f);
  asked.job->options.stop_ids.clear();
  asked.job->choices = 2;
  const int tokens = static_cast<int>(asked.job->prompt.size()) + 30;
  const std::uint64_t state = served_model().engine().open(asked.job->format, {})->cache().bytes.state();
  CHECK(scheduler->submit({asked.job}));
  scheduler->turn();
  CHECK(scheduler->state().reading == 1);
  CHECK(scheduler->state().promised == bytes_of(tokens, 2, false));
  while (asked.heard->texts[1].empty()) REQUIRE(scheduler->turn());
  CHECK(scheduler->state().promised == bytes_of(tokens, 2, false) - state);
  run(*scheduler);
  CHECK(scheduler->state().promised == 0);
}

TEST_CASE("a request is promised what its sampling takes, and no room for states that are not kept") {
  SchedulerLimits limits = usual_limits();
  limits.prefix_cache = 0;
  const auto scheduler = make(limits);
  const auto vocabulary = static_cast<std::uint64_t>(served_model().config().vocab_size);
  const std::uint64_t state = served_model().engine().open(KvFormat::usual(), {})->cache().bytes.state();
  std::vector<std::uint64_t> promised;
  for (const float temperature : {0.0f, 0.8f}) {
    const Asked asked = ask(user("Hello"), 4, 1, temperature);
    const int tokens = static_cast<int>(asked.job->prompt.size()) + 4;
    CHECK(scheduler->submit({asked.job}));
    scheduler->turn();
    promised.push_back(scheduler->state().promised);
    CHECK(promised.back() == bytes_of(tokens, 1, temperature > 0, true) - state);
    run(*scheduler);
  }
  CHECK(promised[1] == promised[0] + 16 * vocabulary);
}

TEST_CASE("what could never run is named before it waits, and a full queue refuses") {
  SchedulerLimits limits = usual_limits();
  limits.queue = 2;
  limits.memory = bytes_of(500, 1, true, false);
  limits.parallel = 8;
  limits.prefix_cache = 0;
  const auto scheduler = make(limits);
  Asked large = ask(user("Hello"), 1500);
  CHECK(scheduler->problem_of(*large.job).find("ask for fewer") != std::string::npos);
  Asked several = ask(user("Hello"), 5);
  several.job->choices = 9;
  CHECK(scheduler->problem_of(*several.job).find("9 choices are more than the 8") != std::string::npos);
  Asked full = ask(user("Hello"), 5);
  full.job->prompt.assign(2048, 5);
  CHECK(scheduler->problem_of(*full.job).find("leaves none of a context of 2048") != std::string::npos);
  CHECK(scheduler->takes(10));
  CHECK_FALSE(scheduler->takes(11));
  for (int i = 0; i < 10; ++i) CHECK(scheduler->submit({ask(user("a"), 5).job}));
  CHECK_FALSE(scheduler->submit({ask(user("b"), 5).job}));
}

TEST_CASE("without a queue a request is taken where a place is free") {
  SchedulerLimits limits = usual_limits();
  limits.queue = 0;
  limits.parallel = 1;
  const auto scheduler = make(limits);
  const Asked first = ask(user("a"), 5), second = ask(user("b"), 5);
  CHECK(scheduler->submit({first.job}));
  CHECK_FALSE(scheduler->submit({second.job}));
  scheduler->turn();
  CHECK_FALSE(scheduler->submit({second.job}));
  while (scheduler->turn()) {
  }
  CHECK(scheduler->submit({second.job}));
  while (scheduler->turn()) {
  }
  CHECK(second.heard->results.size() == 1);
}

TEST_CASE("a cancelled request ends within one turn, wherever it is, and gives its promise back") {
  SchedulerLimits limits = usual_limits();
  limits.parallel = 2;
  limits.pass_tokens = 64;
  const auto scheduler = make(limits);
  const Asked reading = ask(user(std::string(3000, 'x')), 20), decoding = ask(user("Tell me a story"), 500, 1, 0.0f),
              queued = ask(user("Hi"), 5);
  decoding.job->options.stop_ids.clear();
  for (const Asked* asked : {&decoding, &reading, &queued}) CHECK(scheduler->submit({asked->job}));
  for (int i = 0; i < 6; ++i) scheduler->turn();
  CHECK(scheduler->state().reading == 1);
  CHECK(scheduler->state().decoding == 1);
  CHECK(scheduler->state().queued == 1);
  for (const Asked* asked : {&queued, &reading, &decoding}) {
    asked->job->cancelled = true;
    scheduler->turn();
    CHECK(asked->heard->ends == 0);
    CHECK(asked->heard->results.empty());
  }
  CHECK_FALSE(scheduler->turn());
  CHECK(scheduler->state().cancelled == 3);
  CHECK(scheduler->state().promised == 0);
  const Asked next = ask(user("Still there?"), 4);
  CHECK(scheduler->submit({next.job}));
  run(*scheduler);
  CHECK(next.heard->ends == 1);
}

TEST_CASE("who decodes has steps between the pieces of a long prompt") {
  SchedulerLimits limits = usual_limits();
  const auto scheduler = make(limits);
  const Asked short_one = ask(user("Count"), 200, 1, 0.0f), long_one = ask(user(std::string(3000, 'y')), 1);
  short_one.job->options.stop_ids.clear();
  CHECK(scheduler->submit({short_one.job}));
  scheduler->turn();
  scheduler->turn();
  CHECK(scheduler->submit({long_one.job}));
  std::size_t pieces = 0, most = 0;
  for (int turns = 0; long_one.heard->ends == 0; ++turns) {
    REQUIRE(turns < 1000);
    const std::size_t before = short_one.heard->texts[0].size();
    scheduler->turn();
    const std::size_t now = long_one.heard->reads.size();
    most = std::max(most, now - pieces);
    pieces = now;
    if (short_one.heard->ends == 0) CHECK(short_one.heard->texts[0].size() + 1 > before);
  }
  CHECK(pieces > 5);
  CHECK(most == 1);  // never two pieces in a turn
  for (std::size_t i = 1; i < long_one.heard->reads.size(); ++i)
    CHECK(long_one.heard->reads[i] - long_one.heard->reads[i - 1] <= 64);
}

TEST_CASE("a reader that does not keep up pauses its own answer alone") {
  const auto scheduler = make(usual_limits());
  const Asked slow = ask(user("One"), 30, 1, 0.0f), quick = ask(user("Two"), 30, 1, 0.0f);
  slow.job->options.stop_ids.clear();
  CHECK(scheduler->submit({slow.job}));
  CHECK(scheduler->submit({quick.job}));
  for (int i = 0; i < 4; ++i) scheduler->turn();
  slow.heard->is_full = true;
  run(*scheduler);
  CHECK(quick.heard->ends == 1);
  CHECK(slow.heard->ends == 0);
  CHECK(scheduler->state().paused == 1);
  slow.heard->is_full = false;
  run(*scheduler);
  CHECK(slow.heard->ends == 1);
  CHECK(slow.heard->results.at(0).ids.size() == 30);
}

TEST_CASE("the choices of a request are answers with seeds of their own, and its prompt is read once") {
  const auto scheduler = make(usual_limits());
  const Asked three = ask(user("Tell me something"), 12, 7, 1.5f);
  three.job->choices = 3;
  CHECK(scheduler->submit({three.job}));
  run(*scheduler);
  REQUIRE(three.heard->results.size() == 3);
  CHECK(scheduler->state().prompt_tokens == three.job->prompt.size());
  for (int i = 0; i < 3; ++i) {
    const auto alone = make(usual_limits());
    const Asked one = ask(user("Tell me something"), 12, 7 + static_cast<std::uint64_t>(i), 1.5f);
    CHECK(alone->submit({one.job}));
    run(*alone);
    CHECK(one.heard->results.at(0).ids == three.heard->results.at(i).ids);
  }
}

TEST_CASE("a second turn computes what is new, and many that share a system message compute it once") {
  const auto scheduler = make(usual_limits());
  std::string system;
  for (int i = 0; i < 120; ++i) system += "Rule " + std::to_string(i) + " holds. ";
  const Asked first = ask(user("Hello", system), 8, 1, 0.0f);
  CHECK(scheduler->submit({first.job}));
  run(*scheduler);
  CHECK(first.heard->reused == 0);
  const std::uint64_t once = scheduler->state().prompt_tokens;
  CHECK(once == first.job->prompt.size());

  for (int i = 0; i < 4; ++i) {
    const Asked other = ask(user("Question " + std::to_string(i), system), 4, 1, 0.0f);
    CHECK(scheduler->submit({other.job}));
    run(*scheduler);
    CHECK(other.heard->reused > static_cast<int>(other.job->prompt.size()) - 40);
  }
  const Asked second =
      ask(fmt::format(R"([{{"role":"system","content":"{}"}},{{"role":"user","content":"Hello"}},)"
                      R"({{"role":"assistant","content":"Something else."}},{{"role":"user","content":"Go on"}}])",
                      system),
          4, 1, 0.0f);
  second.job->exact = true;
  CHECK(scheduler->submit({second.job}));
  run(*scheduler);
  const int fresh = static_cast<int>(second.job->prompt.size()) - second.heard->reused;
  CHECK(fresh < 40);  // the earlier answer, the question and the marks
}

TEST_CASE("the same long text with another end is not computed again, with markup and without") {
  for (const bool raw : {false, true}) {
    CAPTURE(raw);
    const auto scheduler = make(usual_limits());
    const auto question = [&](const std::string& end) {
      std::string text;
      for (int i = 0; i < 120; ++i) text += "Line " + std::to_string(i) + " is here. ";
      Asked asked = ask(user(text + end), 4, 1, 0.0f);
      if (raw) asked.job->prompt = served_model().tokenizer().encode(text + end, ControlStrings::plain);
      CHECK(scheduler->submit({asked.job}));
      run(*scheduler);
      return asked;
    };
    CHECK(question("What is line 7?").heard->reused == 0);
    const Asked second = question("And which is the last line?");
    CHECK(second.heard->reused > static_cast<int>(second.job->prompt.size()) - 64 * 3);
    CHECK(second.heard->ends == 1);
  }
}

TEST_CASE("a beginning that many share is read once although they come together, and others pass who waits for it") {
  SchedulerLimits limits = usual_limits();
  limits.pass_tokens = 64;
  const auto scheduler = make(limits);
  std::string system;
  for (int i = 0; i < 120; ++i) system += "Rule " + std::to_string(i) + " holds. ";
  std::vector<Asked> all;
  for (int i = 0; i < 5; ++i) {
    all.push_back(ask(user("Question " + std::to_string(i), system), 4, 1, 0.0f));
    CHECK(scheduler->submit({all.back().job}));
  }
  const Asked other = ask(user("Hi"), 4, 1, 0.0f);
  CHECK(scheduler->submit({other.job}));
  scheduler->turn();
  CHECK(all[0].heard->reused == 0);
  CHECK(all[1].heard->reused == -1);
  CHECK(all[1].heard->places.back() == 1);
  CHECK(other.heard->reused == 0);

  SUBCASE("all are answered") {}
  SUBCASE("the one that reads leaves, and the next reads it") {
    for (int i = 0; i < 3; ++i) scheduler->turn();
    all[0].job->cancelled = true;
  }
  const bool left = all[0].job->cancelled;
  run(*scheduler);
  const std::size_t first = left ? 1 : 0;
  CHECK(other.heard->ends == 1);
  for (std::size_t i = first; i < all.size(); ++i) {
    CHECK(all[i].heard->ends == 1);
    if (i > first) CHECK(all[i].heard->reused > static_cast<int>(all[i].job->prompt.size()) - 40);
  }
  CHECK(all[first].heard->reused == 0);
  const std::uint64_t beginning = static_cast<std::uint64_t>(all[1].heard->reused);
  CHECK(scheduler->state().prompt_tokens < 2 * all[0].job->prompt.size() + beginning / 2);
}

TEST_CASE("whatever comes in whatever order, no byte is promised twice and every request ends") {
  int cases = 0;
  CHECK(rc::check([&cases] {
    if (++cases > (sanitized ? 15 : 40)) return;  // each takes a while
    SchedulerLimits limits = usual_limits();
    limits.parallel = *rc::gen::inRange(1, 4);
    limits.prefix_cache = *rc::gen::element(0u, 9'000'000u, 40'000'000u);
    limits.memory = bytes_of(300) * static_cast<std::uint64_t>(*rc::gen::inRange(1, 4)) + limits.prefix_cache;
    limits.pass_tokens = *rc::gen::element(64, 256);
    const auto scheduler = make(limits);
    std::vector<Asked> all;
    const int events = *rc::gen::inRange(1, 25);
    std::size_t cancelled = 0;
    const auto check = [&] {
      const SchedulerState state = scheduler->state();
      RC_ASSERT(state.promised + state.kept <= limits.memory);
      RC_ASSERT(state.kept <= limits.prefix_cache);
    };
    for (int i = 0; i < events; ++i) {
      switch (*rc::gen::inRange(0, 4)) {
        case 0:
        case 1: {
          const std::string text(static_cast<std::size_t>(*rc::gen::inRange(1, 400)), 'q');
          all.push_back(
              ask(user(text, *rc::gen::element<std::string>("", "Be kind.")), *rc::gen::inRange(1, 20), 1, 0.0f));
          all.back().job->choices = limits.parallel > 1 ? *rc::gen::inRange(1, 3) : 1;
          if (!scheduler->problem_of(*all.back().job).empty() || !scheduler->submit({all.back().job})) all.pop_back();
          break;
        }
        case 2:
          if (all.empty()) break;
          all[static_cast<std::size_t>(*rc::gen::inRange<int>(0, static_cast<int>(all.size())))].job->cancelled = true;
          break;
        default:
          for (int turns = *rc::gen::inRange(1, 6); turns > 0; --turns) scheduler->turn();
      }
      check();
    }
    for (int turns = 0; scheduler->turn(); ++turns) {
      RC_ASSERT(turns < 5000);
      check();
    }
    for (const Asked& asked : all) {
      cancelled += asked.heard->ends == 0 ? 1 : 0;
      RC_ASSERT(asked.heard->ends == 1 || asked.job->cancelled.load());
      RC_ASSERT(asked.heard->error_text.empty());
    }
    RC_ASSERT(scheduler->state().promised == 0);
    RC_ASSERT(scheduler->state().cancelled >= cancelled);
  }));
}
