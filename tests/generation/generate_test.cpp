#include "tqkv/generate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "support/places.h"
#include "tqkv/error.h"
#include "tqkv/model.h"

namespace {

using namespace tqkv;

const Tokenizer& pocket_tokenizer() {
  static const Tokenizer tokenizer =
      open_tokenizer(Checkpoint::open_without_weights(std::filesystem::path(test::source_dir()) / "models/pocket"));
  return tokenizer;
}

constexpr int vocabulary = 8200;  // the last eight have no token

/// A session whose logits favour the ids of a script, one after the other.
class ScriptedSession final : public Session {
 public:
  ScriptedSession(std::vector<int> script, int context, int chunk = 4)
      : script_(std::move(script)), logits_(vocabulary), context_(context), chunk_(chunk) {}

  std::span<const float> prefill(std::span<const int> ids, const PrefillOptions& options) override {
    for (std::size_t start = 0; start < ids.size(); start += static_cast<std::size_t>(chunk_)) {
      const std::size_t end = std::min(ids.size(), start + static_cast<std::size_t>(chunk_));
      fed.insert(fed.end(), ids.begin() + static_cast<std::ptrdiff_t>(start),
                 ids.begin() + static_cast<std::ptrdiff_t>(end));
      if (options.progress && !options.progress(static_cast<int>(end)) && end < ids.size()) return {};
    }
    return next_logits();
  }
  std::span<const float> decode(int id) override {
    REQUIRE(position() < context_);
    fed.push_back(id);
    if (on_decode) on_decode();
    return next_logits();
  }
  int position() const override { return static_cast<int>(fed.size()); }
  int context() const override { return context_; }
  std::unique_ptr<Snapshot> snapshot() const override { return nullptr; }
  void restore(const Snapshot&) override {}
  void observe(Observer*) override {}
  std::span<const int> ids() const override { return fed; }
  std::span<const float> logits() const override { return {}; }
  void save(const std::filesystem::path&, const SavedText&) const override {}
  CacheReport cache() const override {
    CacheReport report;
    report.tokens = position();
    return report;
  }

  std::vector<int> fed;
  std::function<void()> on_decode;

 private:
  std::span<const float> next_logits() {
    std::fill(logits_.begin(), logits_.end(), 0.0f);
    const int id = step_ < script_.size() ? script_[step_] : 0;
    ++step_;
    logits_[static_cast<std::size_t>(id)] = 50.0f;
    return logits_;
  }

  std::vector<int> script_;
  std::vector<float> logits_;
  int context_, chunk_;
  std::size_t step_ = 0;
};

std::vector<int> ids_of(std::string_view text, ControlStrings control = ControlStrings::parse) {
  return pocket_tokenizer().encode(text, control);
}

GenerateOptions greedy(int max_tokens = 100) {
  GenerateOptions options;
  options.sampling.greedy = true;
  options.stop_ids = {*pocket_tokenizer().control_id("<|im_end|>")};
  options.max_tokens = max_tokens;
  return options;
}

struct Sunk {
  std::vector<std::pair<Part, std::string>> pieces;
  TextSink sink() {
    return [this](Part part, std::string_view text) { pieces.emplace_back(part, text); };
  }
  std::string of(Part part) const {
    std::string all;
    for (const auto& [p, text] : pieces)
      if (p == part) all += text;
    return all;
  }
};

bool whole_characters(std::string_view text) {
  const auto continuation = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };
  if (text.empty() || continuation(text.front())) return false;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (at + length > text.size()) return false;
    at += length;
  }
  return true;
}

TEST_CASE("memory that runs out behind the prompt ends the answer, and what was said stays") {
  ScriptedSession session(ids_of("Hello there, friend"), 1000);
  session.on_decode = [&] {
    if (session.position() == 4) throw Error(ErrorKind::memory, "stopped after 3 tokens");
  };
  Sunk sunk;
  const GenerateResult result = generate(session, pocket_tokenizer(), ids_of("Hi"), greedy(), sunk.sink());
  CHECK(result.reason == FinishReason::memory);
  CHECK(result.stopped_by == "[memory] stopped after 3 tokens");
  CHECK(!result.answer.empty());
  CHECK(sunk.of(Part::answer) == result.answer);

  ScriptedSession broken(ids_of("Hello there, friend"), 1000);
  broken.on_decode = [] { throw Error(ErrorKind::internal, "something else"); };
  CHECK_THROWS_AS(generate(broken, pocket_tokenizer(), ids_of("Hi"), greedy()), Error);
}

TEST_CASE("a stop id ends the answer and is not part of its text") {
  ScriptedSession session(ids_of("Hello there.<|im_end|>ignored"), 1000);
  Sunk sunk;
  const std::vector<int> prompt = ids_of("Hi");
  const GenerateResult result = generate(session, pocket_tokenizer(), prompt, greedy(), sunk.sink());
  CHECK(result.answer == "Hello there.");
  CHECK(sunk.of(Part::answer) == "Hello there.");
  CHECK(result.reason == FinishReason::stop);
  CHECK(result.ids == ids_of("Hello there.<|im_end|>"));
  CHECK(result.statistics.generated_tokens == static_cast<int>(result.ids.size()));
}

TEST_CASE("a stop string ends the answer before it, and thinking may say it") {
  const std::string thinking = "<think>\nHello there\n</think>\n\n";
  ScriptedSession session(ids_of(thinking + "Well, Hello there, friend"), 1000);
  GenerateOptions options = greedy();
  options.stop_strings = {"never", "lo there"};
  Sunk sunk;
  const GenerateResult result = generate(session, pocket_tokenizer(), ids_of("Hi"), options, sunk.sink());
  CHECK(result.reason == FinishReason::stop);
  CHECK(result.stop_string == "lo there");
  CHECK(result.thinking == "Hello there");
  CHECK(result.answer == "Well, Hel");
  CHECK(sunk.of(Part::answer) == result.answer);
  CHECK(session.position() == static_cast<int>(ids_of("Hi").size() + result.ids.size()) - 1);

  ScriptedSession other(ids_of("Well, Hel"), 1000);
  options.max_tokens = static_cast<int>(ids_of("Well, Hel").size());
  const GenerateResult cut = generate(other, pocket_tokenizer(), ids_of("Hi"), options);
  CHECK(cut.reason == FinishReason::length);
  CHECK(cut.answer == "Well, Hel");
  CHECK(cut.stop_string.empty());
}

TEST_CASE("the last sampled id is not fed") {
  ScriptedSession session(ids_of("one two three four five six seven"), 1000);
  const std::vector<int> prompt = ids_of("count");
  const GenerateResult result = generate(session, pocket_tokenizer(), prompt, greedy(3));
  CHECK(result.reason == FinishReason::length);
  REQUIRE(result.ids.size() == 3);
  std::vector<int> expected = prompt;
  expected.insert(expected.end(), {result.ids[0], result.ids[1]});
  CHECK(session.fed == expected);
  CHECK(result.cache.tokens == static_cast<int>(prompt.size()) + 2);
}

TEST_CASE("one token needs no decode step and has no generation rate") {
  ScriptedSession session(ids_of("word word"), 1000);
  const std::vector<int> prompt = ids_of("Hi");
  const GenerateResult result = generate(session, pocket_tokenizer(), prompt, greedy(1));
  CHECK(session.fed == prompt);
  CHECK_FALSE(result.statistics.generation_tps.has_value());
  CHECK(result.statistics.prompt_tokens == static_cast<int>(prompt.size()));
  REQUIRE(result.statistics.time_to_first_token.has_value());
  CHECK(*result.statistics.time_to_first_token <= result.statistics.wall);
}

TEST_CASE("a full context ends the answer after the token that would not fit") {
  const std::vector<int> prompt = ids_of("Hi there");
  const int context = static_cast<int>(prompt.size()) + 2;
  ScriptedSession session(ids_of("one two three four five six seven"), context);
  const GenerateResult result = generate(session, pocket_tokenizer(), prompt, greedy(0));
  CHECK(result.reason == FinishReason::context);
  CHECK(result.ids.size() == 3);
  CHECK(session.position() == context);
}

TEST_CASE("a prompt that is empty or longer than the context is refused with both counts") {
  ScriptedSession session({}, 3);
  const auto refusal = [&](const std::vector<int>& prompt) -> std::string {
    try {
      generate(session, pocket_tokenizer(), prompt, greedy());
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      return error.what();
    }
    return {};
  };
  CHECK(refusal({}).find("no tokens") != std::string::npos);
  const std::string message = refusal({1, 2, 3, 4, 5});
  CHECK(message.find("5 tokens") != std::string::npos);
  CHECK(message.find("room for 3") != std::string::npos);
  CHECK(session.fed.empty());
}

TEST_CASE("characters that are split over ids reach the sink whole") {
  const std::string text = "日本 – 🦀 naïve";
  ScriptedSession session(ids_of(text + "<|im_end|>"), 1000);
  Sunk sunk;
  const std::vector<int> prompt = ids_of("Hi");
  const GenerateResult result = generate(session, pocket_tokenizer(), prompt, greedy(), sunk.sink());
  CHECK(result.answer == text);
  CHECK(result.ids.size() > 10);  // the crab alone takes several ids
  for (const auto& [part, piece] : sunk.pieces) CHECK(whole_characters(piece));
}

TEST_CASE("an answer cut inside a character ends with the replacement character") {
  std::vector<int> crab = ids_of("🦀");
  REQUIRE(crab.size() > 1);
  ScriptedSession session(crab, 1000);
  Sunk sunk;
  const std::vector<int> prompt = ids_of("Hi");
  const GenerateResult result =
      generate(session, pocket_tokenizer(), prompt, greedy(static_cast<int>(crab.size()) - 1), sunk.sink());
  CHECK(result.answer == "\uFFFD");
  CHECK(sunk.of(Part::answer) == "\uFFFD");
}

TEST_CASE("thinking is told apart from the answer, without markers and blank lines around them") {
  const std::vector<int> prompt = ids_of("Hi");
  SUBCASE("when the prompt opened the block") {
    ScriptedSession session(ids_of("Let me\n\nsee.\n</think>\n\nYes.\n\nNo.<|im_end|>"), 1000);
    GenerateOptions options = greedy();
    options.opens_thinking = true;
    Sunk sunk;
    const GenerateResult result = generate(session, pocket_tokenizer(), prompt, options, sunk.sink());
    CHECK(result.thinking == "Let me\n\nsee.");
    CHECK(result.answer == "Yes.\n\nNo.");
    CHECK_FALSE(result.ended_thinking);
    CHECK(sunk.of(Part::thinking) == result.thinking);
    CHECK(sunk.of(Part::answer) == result.answer);
  }
  SUBCASE("when the model opened the block itself") {
    ScriptedSession session(ids_of("<think>\nHm.\n</think>\n\nYes.<|im_end|>"), 1000);
    const GenerateResult result = generate(session, pocket_tokenizer(), prompt, greedy());
    CHECK(result.thinking == "Hm.");
    CHECK(result.answer == "Yes.");
  }
  SUBCASE("when the tokens ran out inside it") {
    ScriptedSession session(ids_of("Hm, let me see about that"), 1000);
    GenerateOptions options = greedy(4);
    options.opens_thinking = true;
    const GenerateResult result = generate(session, pocket_tokenizer(), prompt, options);
    CHECK(result.ended_thinking);
    CHECK(result.answer.empty());
    CHECK_FALSE(result.thinking.empty());
  }
  SUBCASE("and not at all in raw text") {
    ScriptedSession session(ids_of("a<think>b</think>c<|im_end|>"), 1000);
    GenerateOptions options = greedy();
    options.split_thinking = options.skip_special = false;
    const GenerateResult result = generate(session, pocket_tokenizer(), prompt, options);
    CHECK(result.answer == "a<think>b</think>c");
    CHECK(result.thinking.empty());
  }
}

TEST_CASE("ids without a token are never chosen") {
  constexpr int unused = vocabulary - 1;
  REQUIRE_FALSE(pocket_tokenizer().has_token(unused));
  ScriptedSession session({unused, unused}, 1000);
  const std::vector<int> prompt = ids_of("Hi");
  const GenerateResult result = generate(session, pocket_tokenizer(), prompt, greedy(2));
  CHECK(result.ids == std::vector<int>{0, 0});  // the lowest of the equal ones that are left
}

TEST_CASE("cancelling during the prompt ends after the chunk and generates nothing") {
  std::atomic<bool> cancel{false};
  GenerateOptions options = greedy();
  options.cancel = &cancel;
  std::vector<int> seen;
  options.progress = [&](int done, int total) {
    CHECK(total == 10);
    seen.push_back(done);
    cancel = done >= 8;
  };
  ScriptedSession session(ids_of("never"), 1000);
  const GenerateResult result = generate(session, pocket_tokenizer(), std::vector<int>(10, 65), options);
  CHECK(result.reason == FinishReason::cancelled);
  CHECK(result.ids.empty());
  CHECK(seen == std::vector<int>{4, 8});
  CHECK(result.statistics.prompt_tokens == 8);
  CHECK_FALSE(result.statistics.time_to_first_token.has_value());
}

TEST_CASE("cancelling during the answer ends at the next token with what there is") {
  std::atomic<bool> cancel{false};
  GenerateOptions options = greedy();
  options.cancel = &cancel;
  ScriptedSession session(ids_of("one two three four five six seven"), 1000);
  int steps = 0;
  session.on_decode = [&] { cancel = ++steps == 2; };
  const std::vector<int> prompt = ids_of("Hi");
  const GenerateResult result = generate(session, pocket_tokenizer(), prompt, options);
  CHECK(result.reason == FinishReason::cancelled);
  CHECK(result.ids.size() == 3);
  CHECK_FALSE(result.answer.empty());
  CHECK(result.statistics.generated_tokens == 3);
}

TEST_CASE("an exception of the sink ends the generation") {
  struct Closed {};
  ScriptedSession session(ids_of("one two three four"), 1000);
  const std::vector<int> prompt = ids_of("Hi");
  CHECK_THROWS_AS(
      generate(session, pocket_tokenizer(), prompt, greedy(), [](Part, std::string_view) { throw Closed{}; }), Closed);
  CHECK(session.fed.size() == prompt.size());
}

TEST_CASE("a seed repeats a sampled answer and the draw depends on the position") {
  const auto answer = [&](std::uint64_t seed) {
    ScriptedSession session({}, 1000);
    GenerateOptions options = greedy(20);
    options.sampling = {};
    options.sampling.temperature = 100.0f;  // nearly flat
    options.sampling.seed = seed;
    options.stop_ids.clear();
    const std::vector<int> prompt = ids_of("Hi");
    return generate(session, pocket_tokenizer(), prompt, options).ids;
  };
  const std::vector<int> first = answer(5);
  CHECK(first == answer(5));
  CHECK(first != answer(6));
  CHECK(std::count(first.begin(), first.end(), first.front()) < 5);
}

TEST_CASE("the pocket checkpoint is greedy, stops at its two ids and has plain chat markup") {
  const Checkpoint checkpoint =
      Checkpoint::open_without_weights(std::filesystem::path(test::source_dir()) / "models/pocket");
  const ModelConfig config = ModelConfig::parse(*checkpoint.text("config.json"), "config.json");
  const GenerationDefaults defaults = open_defaults(checkpoint, config);
  CHECK(defaults.sampling.is_greedy());
  CHECK(defaults.stop_ids == std::vector<int>{8185, 8183});
  const auto chat = open_chat(checkpoint, pocket_tokenizer());
  REQUIRE(chat.has_value());
  CHECK(chat->variant() == ChatVariant::plain);
}

}  // namespace
