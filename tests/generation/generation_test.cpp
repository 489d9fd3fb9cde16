// Answers that are driven step by step, several at once.
#include "tqkv/generation.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/failure.h"
#include "support/reference.h"
#include "tqkv/error.h"
#include "tqkv/model.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

constexpr int chunk = 16;  // tokens of one step, fewer than a prompt has

const Model& model() {
  static const Model model = [] {
    Model opened = Model::open(pocket_directory().string());
    opened.load();
    return opened;
  }();
  return model;
}

struct Question {
  std::string text, format;
  int max_tokens;
  float temperature;
  std::vector<std::string> stop;
};

const std::vector<Question> questions{
    {"The secret code of Ada is 4711. Remember it well, and then answer: what is the secret code of Ada?",
     "turboquant",
     40,
     0.0f,
     {}},
    {"Hi, what can you help me with?", "baseline", 25, 0.0f, {"experts"}},
    {"What is std::vector?", "trellis:bits=3", 12, 0.8f, {}}};

std::unique_ptr<Session> open(const Question& question) {
  SessionOptions options;
  options.context = 512;
  options.prefill_chunk = chunk;
  return model().engine().open(KvFormat::parse(question.format), options);
}

GenerateOptions options_of(const Question& question) {
  GenerateOptions options = model().answer_options();
  if (question.temperature > 0) options.sampling = {.temperature = question.temperature, .seed = 3};
  options.max_tokens = question.max_tokens;
  options.stop_strings = question.stop;
  return options;
}

GenerateResult alone(const Question& question) {
  return generate(*open(question), model().tokenizer(), model().prompt(question.text), options_of(question));
}

struct Driven {
  std::vector<GenerateResult> results;
  std::vector<std::string> shown;
  int largest_step = 0;  // answers in it
};

/// All of them at once, of which the second one comes later.
Driven together(Want want) {
  Driven driven;
  driven.shown.resize(questions.size());
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Generation> generations;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    sessions.push_back(open(questions[i]));
    generations.emplace_back(*sessions[i], model().tokenizer(), model().prompt(questions[i].text),
                             options_of(questions[i]),
                             [&driven, i](Part, std::string_view piece) { driven.shown[i] += piece; });
  }
  for (int step = 0;; ++step) {
    std::vector<Work> work;
    std::vector<Generation*> who;
    for (std::size_t i = 0; i < generations.size(); ++i) {
      if (generations[i].finished() || (i == 1 && step < 3)) continue;
      work.push_back(generations[i].work(chunk, want));
      who.push_back(&generations[i]);
    }
    if (work.empty()) break;
    driven.largest_step = std::max(driven.largest_step, static_cast<int>(work.size()));
    model().engine().step(work);
    for (std::size_t i = 0; i < work.size(); ++i) who[i]->accept(work[i]);
  }
  for (const Generation& generation : generations) driven.results.push_back(generation.result());
  return driven;
}

TEST_CASE("answers that are generated together are those that each question gets alone") {
  for (const Want want : {Want::logits, Want::id}) {
    const Driven driven = together(want);
    CHECK(driven.largest_step == 3);
    for (std::size_t i = 0; i < questions.size(); ++i) {
      CAPTURE(questions[i].text);
      const GenerateResult expected = alone(questions[i]), &result = driven.results[i];
      CHECK(result.ids == expected.ids);
      CHECK(result.answer == expected.answer);
      CHECK(result.thinking == expected.thinking);
      CHECK(driven.shown[i] == expected.answer);
      CHECK(result.reason == expected.reason);
      CHECK(result.stop_string == expected.stop_string);
      CHECK(result.cache.tokens == expected.cache.tokens);
      CHECK(result.statistics.prompt_tokens == expected.statistics.prompt_tokens);
      CHECK(result.statistics.generated_tokens == expected.statistics.generated_tokens);
    }
    CHECK(driven.results[1].stop_string == "experts");
    CHECK_FALSE(driven.results[0].answer.empty());
  }
}

TEST_CASE("a prompt that is cancelled between its pieces is left there, and what was shown of it is told") {
  std::atomic<bool> cancel{false};
  GenerateOptions options = options_of(questions[0]);
  options.cancel = &cancel;
  std::vector<int> seen;
  options.progress = [&](int done, int total) {
    CHECK(total > chunk);
    seen.push_back(done);
    cancel = true;
  };
  const auto session = open(questions[0]);
  Generation generation(*session, model().tokenizer(), model().prompt(questions[0].text), options);
  Work work[] = {generation.work(chunk)};
  CHECK(work[0].want == Want::nothing);
  model().engine().step(work);
  generation.accept(work[0]);
  CHECK(generation.finished());
  CHECK(generation.result().reason == FinishReason::cancelled);
  CHECK(generation.result().ids.empty());
  CHECK(generation.result().statistics.prompt_tokens == chunk);
  CHECK(seen == std::vector<int>{chunk});
}

TEST_CASE("memory that runs out ends an answer with what there is, but refuses a prompt") {
  const auto session = open(questions[1]);
  Generation generation(*session, model().tokenizer(), model().prompt(questions[1].text), options_of(questions[1]));
  const Error full(ErrorKind::memory, "no room");
  CHECK_THROWS_AS(generation.refuse(full), Error);
  while (generation.result().ids.size() < 3) {
    Work work[] = {generation.work(chunk, Want::id)};
    model().engine().step(work);
    generation.accept(work[0]);
  }
  CHECK_THROWS_AS(generation.refuse(Error(ErrorKind::internal, "a defect")), Error);
  CHECK_FALSE(generation.finished());
  Work refused = generation.work(chunk, Want::id);
  refused.error = full;
  generation.accept(refused);
  CHECK(generation.result().reason == FinishReason::memory);
  CHECK(generation.result().stopped_by.find("no room") != std::string::npos);
  CHECK(generation.result().ids.size() == 3);
  CHECK_FALSE(generation.result().answer.empty());
}

TEST_CASE("a step draws no id for an answer that does not say which ones there are") {
  GenerateOptions options = options_of(questions[0]);
  options.allowed.clear();
  const auto session = open(questions[0]);
  Generation generation(*session, model().tokenizer(), model().prompt("Hi"), options);
  CHECK(failure(ErrorKind::internal, [&] { generation.work(512, Want::id); }).find("allowed") != std::string::npos);
}

}  // namespace
