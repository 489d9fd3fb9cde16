// Answers that keep to a grammar.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/reference.h"
#include "tqkv/error.h"
#include "tqkv/generation.h"
#include "tqkv/model.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

const Model& loaded() {
  static const Model model = [] {
    Model opened = Model::open(pocket_directory().string());
    opened.load();
    return opened;
  }();
  return model;
}

std::unique_ptr<Session> open_session() {
  SessionOptions options;
  options.context = 512;
  return loaded().engine().open(KvFormat::parse("turboquant"), options);
}

GenerateOptions held_to(const Grammar& grammar, float temperature = 0.0f) {
  GenerateOptions options = loaded().answer_options();
  options.sampling = {.temperature = temperature, .seed = 5};
  options.grammar = grammar;
  options.vocabulary = loaded().vocabulary();
  options.max_tokens = 200;
  return options;
}

GenerateResult answer(const GenerateOptions& options) {
  return generate(*open_session(), loaded().tokenizer(), loaded().prompt("Hi, what can you help me with?"), options);
}

const Grammar person() {
  return Grammar::json_schema(
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":20},"age":{"type":"integer",
    "minimum":0,"maximum":150},"kind":{"enum":["cat","dog"]}},"required":["name","age","kind"]})");
}

TEST_CASE("an answer that is held to a schema is a value of it, at any temperature") {
  for (const float temperature : {0.0f, 1.0f, 2.0f}) {
    const GenerateResult result = answer(held_to(person(), temperature));
    CAPTURE(result.answer);
    CHECK(result.reason == FinishReason::stop);
    const nlohmann::json value = nlohmann::json::parse(result.answer, nullptr, false);
    REQUIRE(value.is_object());
    CHECK(value.size() == 3);
    CHECK(value["age"] <= 150);
    CHECK((value["kind"] == "cat" || value["kind"] == "dog"));
    const std::vector<int> stops = loaded().stop_ids();
    CHECK(std::find(stops.begin(), stops.end(), result.ids.back()) != stops.end());
  }
}

TEST_CASE("an answer that fits its grammar is the one that is given without") {
  GenerateOptions free = held_to(person());
  free.grammar.reset();
  const GenerateResult plain = answer(free);
  GenerateOptions held = held_to(Grammar::json_schema(nlohmann::json{{"const", "x"}}.dump()));
  CHECK(nlohmann::json::parse(answer(held).answer) == "x");
  // A text that is the value of a parameter: nothing to break before its end.
  held.grammar = Grammar::tool_calls(
      R"([{"name":"say","parameters":{"properties":{"text":{"type":"string"}},"required":["text"]}}])");
  const std::string front = "<tool_call>\n<function=say>\n<parameter=text>\n";
  CHECK(answer(held).answer.starts_with(front));
  CHECK_FALSE(plain.answer.starts_with(front));
}

TEST_CASE("steps that draw an id keep to the grammar too, and give the same answer") {
  const GenerateOptions options = held_to(person(), 1.0f);
  const GenerateResult alone = answer(options);
  for (const Want want : {Want::id, Want::logits}) {
    const auto session = open_session();
    Generation generation(*session, loaded().tokenizer(), loaded().prompt("Hi, what can you help me with?"), options);
    while (!generation.finished()) {
      Work work[] = {generation.work(256, want)};
      loaded().engine().step(work);
      generation.accept(work[0]);
    }
    CHECK(generation.result().ids == alone.ids);
  }
}

TEST_CASE("thinking is free, but does not end the answer") {
  const std::optional<int> close = loaded().tokenizer().control_id("</think>");
  REQUIRE(close);
  GenerateOptions options = held_to(person());
  options.opens_thinking = true;
  options.max_tokens = 300;
  options.sampling.logit_bias = {{options.stop_ids.front(), 100.0f}, {*close, 90.0f}};
  const GenerateResult result = answer(options);
  CHECK(result.ids.front() == *close);
  CHECK_FALSE(result.ended_thinking);
  CHECK(nlohmann::json::accept(result.answer));
  options.sampling.logit_bias = {{options.stop_ids.front(), 100.0f}};
  options.max_tokens = 5;
  CHECK(answer(options).reason == FinishReason::length);
}

TEST_CASE("without stop ids the answer ends where nothing may follow") {
  GenerateOptions options = held_to(person());
  options.stop_ids.clear();
  const GenerateResult result = answer(options);
  CHECK(result.reason == FinishReason::stop);
  CHECK(nlohmann::json::accept(result.answer));
}

TEST_CASE(
    "an id that is drawn elsewhere and breaks the grammar is an error, and so is a grammar without a vocabulary") {
  GenerateOptions options = held_to(person());
  const auto session = open_session();
  Generation generation(*session, loaded().tokenizer(), loaded().prompt("Hi"), options);
  session->prefill(generation.next());
  CHECK_THROWS_AS(generation.accept(options.stop_ids.front()), Error);
  options.vocabulary.reset();
  CHECK_THROWS_WITH_AS(answer(options), doctest::Contains("vocabulary"), Error);
}

}  // namespace
