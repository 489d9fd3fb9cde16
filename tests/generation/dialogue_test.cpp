// A conversation that takes turns back has the bits of one that never took them.
#include "generation/dialogue.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tqkv/engine.h"

namespace {

using namespace tqkv;

const Engine& pocket() {
  static const auto engine =
      Engine::load(Checkpoint::open(std::filesystem::path(TQKV_SOURCE_DIR) / "models/pocket"), {});
  return *engine;
}

const Tokenizer& tokenizer() {
  static const Tokenizer tokenizer = open_tokenizer(pocket().checkpoint());
  return tokenizer;
}

std::vector<int> ids(const std::string& text) {
  return tokenizer().encode("<|im_start|>user\n" + text + "<|im_end|>\n<|im_start|>assistant\n", ControlStrings::parse);
}

Dialogue::Open opener(const std::string& format) {
  return [format] {
    SessionOptions options;
    options.context = 1024;
    return pocket().open(KvFormat::parse(format), options);
  };
}

GenerateOptions greedy(const std::atomic<bool>* cancel = nullptr) {
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_tokens = 9;
  options.cancel = cancel;
  return options;
}

std::vector<int> say(Dialogue& dialogue, const std::string& text) {
  return dialogue.say(tokenizer(), ids(text), greedy(), {}).ids;
}

std::vector<float> logits(const Dialogue& dialogue) {
  return {dialogue.session().logits().begin(), dialogue.session().logits().end()};
}

constexpr std::uint64_t plenty = std::uint64_t{1} << 30;
const std::vector<std::string> questions{"What is std::vector?", "And std::map?", "Which one is sorted?", "Why?"};

}  // namespace

TEST_CASE("undo gives bit for bit the conversation that never took the turn, with snapshots and without") {
  for (const std::string format : {"baseline", "turboquant:bits=3:window=20", "trellis"})
    for (const std::uint64_t budget : {plenty, std::uint64_t{0}}) {
      CAPTURE(format);
      CAPTURE(budget);
      Dialogue taken_back(opener(format), budget), straight(opener(format), budget);
      for (Dialogue* dialogue : {&taken_back, &straight}) {
        say(*dialogue, questions[0]);
        say(*dialogue, questions[1]);
      }
      say(taken_back, questions[2]);
      say(taken_back, questions[3]);
      CHECK(taken_back.undo());
      CHECK(taken_back.undo());
      CHECK(taken_back.turns() == 2);
      CHECK(taken_back.session().position() == straight.session().position());
      CHECK(taken_back.pending() == straight.pending());
      CHECK(say(taken_back, questions[3]) == say(straight, questions[3]));
      CHECK(logits(taken_back) == logits(straight));
      CHECK(taken_back.session().cache().bytes.kv_allocated == straight.session().cache().bytes.kv_allocated);
    }
}

TEST_CASE("every turn can be taken back, the first one too, and then there is none") {
  Dialogue dialogue(opener("turboquant"), plenty), fresh(opener("turboquant"), plenty);
  for (const std::string& question : questions) say(dialogue, question);
  for (std::size_t i = 0; i < questions.size(); ++i) CHECK(dialogue.undo());
  CHECK_FALSE(dialogue.undo());
  CHECK(dialogue.session().position() == 0);
  CHECK_FALSE(dialogue.last_id());
  CHECK(say(dialogue, questions[1]) == say(fresh, questions[1]));
  CHECK(logits(dialogue) == logits(fresh));
}

TEST_CASE("snapshots stay in their budget, the beginning of the last turn among them") {
  const std::uint64_t one = [] {
    Dialogue dialogue(opener("turboquant"), plenty);
    say(dialogue, questions[0]);
    say(dialogue, questions[1]);
    return dialogue.snapshot_bytes();
  }();
  Dialogue dialogue(opener("turboquant"), 3 * one);
  std::vector<int> positions;
  for (int turn = 0; turn < 9; ++turn) {
    say(dialogue, "Why?");
    CHECK(dialogue.snapshot_bytes() <= 3 * one);
  }
  CHECK(dialogue.snapshots() == 3);
  Dialogue small(opener("turboquant"), one - 1);
  say(small, questions[0]);
  say(small, questions[1]);
  CHECK(small.snapshots() == 0);
}

TEST_CASE("a question that is interrupted before its answer leaves nothing behind") {
  Dialogue interrupted(opener("turboquant"), plenty), straight(opener("turboquant"), plenty);
  say(interrupted, questions[0]);
  say(straight, questions[0]);
  const std::atomic<bool> cancel{true};
  GenerateOptions options = greedy(&cancel);
  std::string long_question;
  for (int i = 0; i < 60; ++i) long_question += questions[1];
  const GenerateResult result = interrupted.say(tokenizer(), ids(long_question), options, {});
  CHECK(result.reason == FinishReason::cancelled);
  if (result.ids.empty())
    CHECK(interrupted.turns() == 1);
  else
    CHECK(interrupted.undo());
  CHECK(say(interrupted, questions[2]) == say(straight, questions[2]));
  CHECK(logits(interrupted) == logits(straight));
}

TEST_CASE("a conversation computed anew with another format holds the same text, and can be taken back and stopped") {
  Dialogue dialogue(opener("turboquant"), plenty);
  for (int turn = 0; turn < 3; ++turn) say(dialogue, questions[static_cast<std::size_t>(turn)]);
  const std::vector<int> held(dialogue.session().ids().begin(), dialogue.session().ids().end());
  CHECK_FALSE(dialogue.rebuild(opener("mlx_quant"), std::nullopt, [](int, int) { return false; }));
  CHECK(dialogue.session().cache().format.backend == Backend::turboquant);
  int last = 0, of = 0;
  CHECK(dialogue.rebuild(opener("mlx_quant"), std::nullopt, [&](int done, int total) {
    last = done;
    of = total;
    return true;
  }));
  CHECK(last == static_cast<int>(held.size()));
  CHECK(of == last);
  CHECK(dialogue.session().cache().format.backend == Backend::mlx_quant);
  CHECK(std::vector<int>(dialogue.session().ids().begin(), dialogue.session().ids().end()) == held);
  const int before = dialogue.session().position();
  const std::vector<int> pending = dialogue.pending();
  const std::vector<int> answer = say(dialogue, questions[3]);
  CHECK(dialogue.undo());
  CHECK(dialogue.session().position() == before);
  CHECK(dialogue.pending() == pending);
  CHECK(say(dialogue, questions[3]) == answer);
}

TEST_CASE("a turn that fails in the middle leaves nothing behind") {
  Dialogue failed(opener("turboquant"), plenty), straight(opener("turboquant"), plenty);
  say(failed, questions[0]);
  say(straight, questions[0]);
  struct Closed {};
  const auto sink = [](Part, std::string_view) { throw Closed{}; };
  CHECK_THROWS_AS(failed.say(tokenizer(), ids(questions[1]), greedy(), sink), Closed);
  CHECK(failed.turns() == 1);
  CHECK(say(failed, questions[2]) == say(straight, questions[2]));
  CHECK(logits(failed) == logits(straight));
}
