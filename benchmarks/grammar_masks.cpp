// grammar-masks: how long a mask, a step and a schema take. Vocabularies: pocket's, and one of 248,320 tokens by chance
// with the lengths and bytes of a large tokenizer's: words, characters of other scripts, and pieces of code.
#include <benchmark/benchmark.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "support/reference.h"
#include "tqkv/grammar.h"
#include "tqkv/model.h"

namespace {

using namespace tqkv;

const Vocabulary& pocket_vocabulary() {
  static const Vocabulary own(Model::open(test::pocket_directory().string()).tokenizer());
  return own;
}

const Vocabulary& large_vocabulary() {
  static const Vocabulary own = [] {
    std::mt19937 chance(1);
    const auto below = [&](std::size_t count) { return static_cast<std::size_t>(chance() % count); };
    const std::string letters = "eeeeetttaaaooiinnsshhrrddlluucmfwygpbvkxqjzETAOINSHRDL";
    const std::string signs = "\"\"\"{}[]()::,,;;..==<>//\\\n\n\t    -_+*&|!?'#$%@";
    std::set<std::string> texts;
    for (int byte = 0; byte < 256; ++byte) texts.emplace(1, static_cast<char>(byte));
    while (texts.size() < 248'320) {
      const std::size_t kind = below(10);
      std::string text = kind < 9 && below(2) == 0 ? " " : "";
      if (kind < 7)
        for (std::size_t i = 2 + below(9); i > 0; --i) text += letters[below(letters.size())];
      else if (kind < 9)
        for (std::size_t i = 1 + below(4); i > 0; --i) {
          const std::size_t point = 0x4e00 + below(0x5000);
          text += static_cast<char>(0xe0 | point >> 12);
          text += static_cast<char>(0x80 | (point >> 6 & 63));
          text += static_cast<char>(0x80 | (point & 63));
        }
      else
        for (std::size_t i = 2 + below(5); i > 0; --i) text += signs[below(signs.size())];
      texts.insert(text);
    }
    return Vocabulary(std::vector<std::string>(texts.begin(), texts.end()));
  }();
  return own;
}

const char* const person =
    R"({"type":"object","properties":{"name":{"type":"string"},"short":{"type":"string","maxLength":12},
  "age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"enum":["red","green","blue"]}}},
  "required":["name","age"]})";
const char* const tools =
    R"([{"name":"find","parameters":{"properties":{"text":{"type":"string"}},"required":["text"]}}])";

Matcher at(const Grammar& grammar, std::string_view text) {
  Matcher matcher(grammar);
  if (!matcher.advance(text)) std::abort();
  return matcher;
}

void mask(benchmark::State& state, const Vocabulary& vocabulary, const Matcher& matcher, bool kept) {
  TokenMasks masks(vocabulary, vocabulary.size(), {});
  masks.allowed(matcher);
  for ([[maybe_unused]] const auto turn : state) {
    if (!kept) masks = TokenMasks(vocabulary, vocabulary.size(), {});
    benchmark::DoNotOptimize(masks.allowed(matcher).size());
  }
}

/// About 20 KB: objects of ten properties, one in the other.
std::string long_schema() {
  std::string schema = R"({"type":"string"})";
  while (schema.size() < 20'000) {
    std::string outer = R"({"type":"object","properties":{"inner":)" + schema;
    for (int i = 0; i < 10; ++i)
      outer +=
          ",\"property_" + std::to_string(i) + R"(":{"type":"integer","minimum":1,"description":"how many of them"})";
    schema = outer + R"(},"required":["inner","property_3"]})";
  }
  return schema;
}

void compile(benchmark::State& state) {
  const std::string schema = long_schema();
  for ([[maybe_unused]] const auto turn : state) benchmark::DoNotOptimize(Grammar::json_schema(schema));
}

void advance(benchmark::State& state) {
  const Matcher matcher = at(Grammar::json_schema(person), R"({"name": "Ada)");
  for ([[maybe_unused]] const auto turn : state) benchmark::DoNotOptimize(Matcher(matcher).advance(" token"));
}

void vocabulary(benchmark::State& state) {
  std::vector<std::string> texts;
  for (int id = 0; id < large_vocabulary().size(); ++id) texts.emplace_back(large_vocabulary().text(id));
  for ([[maybe_unused]] const auto turn : state) benchmark::DoNotOptimize(Vocabulary(texts).size());
}

}  // namespace

int main(int count, char** arguments) {
  struct Place {
    const char* name;
    Matcher matcher;
  };
  const Grammar grammar = Grammar::json_schema(person);
  const std::vector<Place> places{
      {"in a string", at(grammar, R"({"name": "Ada)")},
      {"in a short string", at(grammar, R"({"name":"","short":"a)")},
      {"before a key", at(grammar, "{")},
      {"after a value", at(grammar, R"({"name":"a")")},
      {"in a free key", at(Grammar::json_object(), R"({"a":1,"b)")},
      {"before any value", at(Grammar::json_object(), R"({"a":)")},
      {"in a parameter", at(Grammar::tool_calls(tools), "<tool_call>\n<function=find>\n<parameter=text>\na")}};
  for (const bool large : {false, true})
    for (const bool kept : {false, true})
      for (const Place& place : places)
        benchmark::RegisterBenchmark(
            (std::string(large ? "248,320 " : "pocket ") + place.name + (kept ? ", again" : "")).c_str(),
            [&place, large, kept](benchmark::State& state) {
              mask(state, large ? large_vocabulary() : pocket_vocabulary(), place.matcher, kept);
            })
            ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("a schema of 20 KB", compile)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("a token", advance)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("a vocabulary of 248,320", vocabulary)->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&count, arguments);
  benchmark::RunSpecifiedBenchmarks();
}
