// A conversation that takes turns back has the bits of one that never took them.
#include "tqkv/chat_session.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "base/file.h"
#include "support/reference.h"
#include "support/sanitized.h"
#include "support/temporary_directory.h"
#include "tqkv/engine.h"
#include "tqkv/memory_plan.h"
#include "tqkv/turns.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

const Tokenizer& tokenizer() {
  static const Tokenizer tokenizer = open_tokenizer(pocket(Precision::fast).checkpoint());
  return tokenizer;
}

std::vector<int> ids(const std::string& text) {
  return tokenizer().encode("<|im_start|>user\n" + text + "<|im_end|>\n<|im_start|>assistant\n", ControlStrings::parse);
}

ChatSession::Open opener(const std::string& format, int chunk = 2048, Precision precision = Precision::fast) {
  return [format, chunk, precision] {
    SessionOptions options;
    options.context = 4096;
    options.prefill_chunk = chunk;
    return pocket(precision).open(KvFormat::parse(format), options);
  };
}

GenerateOptions greedy(const std::atomic<bool>* cancel = nullptr) {
  GenerateOptions options;
  options.sampling.greedy = true;
  options.max_tokens = 9;
  options.cancel = cancel;
  return options;
}

std::vector<int> say(ChatSession& chat, const std::string& text) {
  return chat.say(tokenizer(), ids(text), greedy(), {}).ids;
}

std::vector<float> logits(ChatSession& chat) {
  return {chat.session().logits().begin(), chat.session().logits().end()};
}

constexpr std::uint64_t plenty = std::uint64_t{1} << 30;
const std::vector<std::string> questions{"What is std::vector?", "And std::map?", "Which one is sorted?", "Why?"};

/// A text of about 12 tokens a sentence, each of another number.
std::string passage(int sentences) {
  std::string text;
  for (int i = 0; i < sentences; ++i) text += "Page " + std::to_string(i * i) + " holds the keys of one head. ";
  return text;
}

/// Bytes of a copy of the state where there is no window.
std::uint64_t state_bytes() {
  return opener("turboquant")()->cache().bytes.state();
}

/// Tokens that are computed to bring the session to the end of the text.
int computed_again(ChatSession& chat) {
  int tokens = 0;
  CHECK(chat.catch_up([&](int, int total) {
    tokens = total;
    return true;
  }));
  return tokens;
}

/// Everything that a session holds.
std::string saved(ChatSession& chat) {
  const TemporaryDirectory folder;
  chat.session().save(folder / "s");
  return read_text(folder / "s");
}

/// A question that is cancelled when `chunks` more chunks were read, before its answer or at its first token.
void cancel(ChatSession& chat, const std::string& text, int chunks) {
  const int turns = chat.turns();
  std::atomic<bool> stop{false};
  GenerateOptions options = greedy(&stop);
  options.progress = [&](int done, int total) { stop = --chunks <= 0 || done == total; };
  CHECK(chat.say(tokenizer(), ids(text), options, {}).reason == FinishReason::cancelled);
  if (chat.turns() > turns) chat.undo();
}

}  // namespace

TEST_CASE("undo gives bit for bit the conversation that never took the turn, with snapshots and without") {
  for (const std::string format : {"baseline", "turboquant:bits=3:window=20", "trellis"})
    for (const std::uint64_t budget : {plenty, std::uint64_t{0}}) {
      CAPTURE(format);
      CAPTURE(budget);
      ChatSession taken_back(opener(format), budget), straight(opener(format), budget);
      for (ChatSession* chat : {&taken_back, &straight}) {
        say(*chat, questions[0]);
        say(*chat, questions[1]);
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
  ChatSession chat(opener("turboquant"), plenty), fresh(opener("turboquant"), plenty);
  for (const std::string& question : questions) say(chat, question);
  for (std::size_t i = 0; i < questions.size(); ++i) CHECK(chat.undo());
  CHECK_FALSE(chat.undo());
  CHECK(chat.session().position() == 0);
  CHECK_FALSE(chat.last_id());
  CHECK(say(chat, questions[1]) == say(fresh, questions[1]));
  CHECK(logits(chat) == logits(fresh));
}

TEST_CASE("snapshots stay in their budget, the beginning of the last turn among them") {
  const std::uint64_t one = state_bytes();
  ChatSession chat(opener("turboquant"), 3 * one);
  for (int turn = 0; turn < 9; ++turn) {
    say(chat, "Why?");
    CHECK(chat.snapshot_bytes() <= 3 * one);
  }
  CHECK(chat.snapshots() == 3);
  CHECK(chat.undo());
  CHECK(computed_again(chat) == 0);
  ChatSession small(opener("turboquant"), one - 1);
  say(small, questions[0]);
  say(small, questions[1]);
  CHECK(small.snapshots() == 0);
}

TEST_CASE("a question that is interrupted before its answer leaves nothing behind") {
  ChatSession interrupted(opener("turboquant", 64), plenty), straight(opener("turboquant", 64), plenty);
  say(interrupted, questions[0]);
  say(straight, questions[0]);
  const int before = interrupted.position();
  cancel(interrupted, passage(30), 2);
  CHECK(interrupted.turns() == 1);
  CHECK(interrupted.position() == before);
  CHECK(say(interrupted, questions[2]) == say(straight, questions[2]));
  CHECK(logits(interrupted) == logits(straight));
}

TEST_CASE("a conversation computed anew with another format holds the same text, and can be taken back and stopped") {
  ChatSession chat(opener("turboquant"), plenty);
  for (int turn = 0; turn < 3; ++turn) say(chat, questions[static_cast<std::size_t>(turn)]);
  const std::vector<int> held(chat.session().ids().begin(), chat.session().ids().end());
  CHECK_FALSE(chat.rebuild(opener("mlx_quant"), std::nullopt, [](int, int) { return false; }));
  CHECK(chat.session().cache().format.backend == Backend::turboquant);
  int last = 0, of = 0;
  CHECK(chat.rebuild(opener("mlx_quant"), std::nullopt, [&](int done, int total) {
    last = done;
    of = total;
    return true;
  }));
  CHECK(last == static_cast<int>(held.size()));
  CHECK(of == last);
  CHECK(chat.session().cache().format.backend == Backend::mlx_quant);
  CHECK(std::vector<int>(chat.session().ids().begin(), chat.session().ids().end()) == held);
  const int before = chat.session().position();
  const std::vector<int> pending = chat.pending();
  const std::vector<int> answer = say(chat, questions[3]);
  CHECK(chat.undo());
  CHECK(chat.session().position() == before);
  CHECK(chat.pending() == pending);
  CHECK(say(chat, questions[3]) == answer);
}

TEST_CASE("a turn that fails in the middle leaves nothing behind") {
  ChatSession failed(opener("turboquant"), plenty), straight(opener("turboquant"), plenty);
  say(failed, questions[0]);
  say(straight, questions[0]);
  struct Closed {};
  const auto sink = [](Part, std::string_view) { throw Closed{}; };
  CHECK_THROWS_AS(failed.say(tokenizer(), ids(questions[1]), greedy(), sink), Closed);
  CHECK(failed.turns() == 1);
  CHECK(say(failed, questions[2]) == say(straight, questions[2]));
  CHECK(logits(failed) == logits(straight));
}

TEST_CASE("whatever is said, cancelled and taken back, long or short: the bits are those of what is left" *
          doctest::skip(tqkv::test::sanitized)) {
  const std::uint64_t one = state_bytes();
  for (const auto& session : {std::pair<std::string, int>{"turboquant", 16}, {"trellis:window=20", 64}}) {
    const std::string& format = session.first;
    const int chunk = session.second;
    CAPTURE(format);
    ChatSession straight(opener(format, chunk), 0);
    std::string expected;
    for (const std::uint64_t budget : {plenty, std::uint64_t{0}, one, 3 * one + 200'000}) {
      CAPTURE(budget);
      ChatSession chat(opener(format, chunk), budget);
      std::vector<std::string> left;
      std::uint64_t most = 0;
      unsigned random = 7;
      const auto draw = [&](unsigned below) { return (random = random * 1664525 + 1013904223) / 65536 % below; };
      GenerateOptions options = greedy();
      options.max_tokens = 4;
      options.progress = [&](int, int) { most = std::max(most, chat.snapshot_bytes()); };
      for (int step = 0; step < 12; ++step) {
        // Passages of a few lengths begin alike, as edited questions do.
        const std::string text = passage(static_cast<int>(draw(3) * 4)) + questions[draw(4)];
        const unsigned kind = draw(8);
        if (kind < 3 && chat.undo()) left.pop_back();
        if (kind == 3) cancel(chat, passage(10), static_cast<int>(draw(3)));
        if (kind > 3) {
          CHECK_FALSE(chat.say(tokenizer(), ids(text), options, {}).ids.empty());
          left.push_back(text);
        }
        most = std::max(most, chat.snapshot_bytes());
      }
      CHECK(most <= budget);
      chat.say(tokenizer(), ids("Why?"), options, {});
      if (expected.empty()) {
        CHECK(left.size() >= 3);
        for (const std::string& text : left) straight.say(tokenizer(), ids(text), options, {});
        straight.say(tokenizer(), ids("Why?"), options, {});
        expected = saved(straight);
      }
      CHECK(chat.position() == straight.position());
      CHECK(chat.pending() == straight.pending());
      CHECK(saved(chat) == expected);
    }
  }
}

TEST_CASE("a long question that is asked again with another end is read from the last chunk that is the same" *
          doctest::skip(tqkv::test::sanitized)) {
  const std::string text = passage(25);
  for (const auto& session : {std::pair<std::string, int>{"turboquant", 16}, {"trellis:window=20", 64}}) {
    const std::string& format = session.first;
    const int chunk = session.second;
    CAPTURE(format);
    CAPTURE(chunk);
    ChatSession chat(opener(format, chunk), 4 * state_bytes() + 100'000), straight(opener(format, chunk), 0);
    say(chat, questions[0]);
    say(chat, text + "What is on page 4?");
    CHECK(chat.undo());
    GenerateResult again = chat.say(tokenizer(), ids(text + "What is on page 9?"), greedy(), {});
    CHECK(again.statistics.prompt_tokens <= chunk + 20);
    say(straight, questions[0]);
    CHECK(again.ids == say(straight, text + "What is on page 9?"));
    CHECK(saved(chat) == saved(straight));

    // The very same question, and one that has only the beginning in common.
    CHECK(chat.undo());
    again = chat.say(tokenizer(), ids(text + "What is on page 9?"), greedy(), {});
    CHECK(again.statistics.prompt_tokens <= chunk);
    CHECK(saved(chat) == saved(straight));
    CHECK(chat.undo());
    CHECK(straight.undo());
    say(chat, passage(8) + "Why?");
    say(straight, passage(8) + "Why?");
    CHECK(saved(chat) == saved(straight));
  }
}

TEST_CASE("a prompt that goes on where another ended is read in its own chunks") {
  const auto say_ids = [](ChatSession& chat, std::vector<int> prompt) {
    return chat.say(tokenizer(), prompt, greedy(), {}).ids;
  };
  std::vector<int> first = ids(passage(9)), second = ids("Why?");
  first.resize(2 * 48 + 7);
  ChatSession chat(opener("turboquant", 48), plenty), straight(opener("turboquant", 48), 0);
  std::vector<int> both = first;
  for (const int id : say_ids(chat, first)) both.push_back(id);
  both.insert(both.end(), second.begin(), second.end());
  say_ids(chat, second);
  CHECK(chat.undo());
  CHECK(chat.undo());
  CHECK(say_ids(chat, both) == say_ids(straight, both));
  CHECK(saved(chat) == saved(straight));
}

TEST_CASE("a question that was interrupted and is asked again goes on where it stopped") {
  ChatSession chat(opener("turboquant", 16), 3 * state_bytes()), straight(opener("turboquant", 16), 0);
  const int tokens = static_cast<int>(ids(passage(30)).size());
  cancel(chat, passage(30), 11);
  const GenerateResult again = chat.say(tokenizer(), ids(passage(30)), greedy(), {});
  CHECK(again.statistics.prompt_tokens == tokens - 11 * 16);
  CHECK(again.ids == say(straight, passage(30)));
  CHECK(saved(chat) == saved(straight));
}

TEST_CASE("what undo computes again begins at the nearest state that is kept, and can be stopped and taken up" *
          doctest::skip(tqkv::test::sanitized)) {
  const std::uint64_t one = state_bytes();
  const auto take_all_back = [&](std::uint64_t budget) {
    ChatSession chat(opener("turboquant"), budget);
    for (int turn = 0; turn < 8; ++turn) say(chat, questions[0]);
    int tokens = 0;
    while (chat.undo()) tokens += computed_again(chat);
    return tokens;
  };
  const int few = take_all_back(3 * one), all = take_all_back(0);
  CHECK(take_all_back(plenty) == 0);
  CHECK(few > 0);
  CHECK(few < all / 4);

  ChatSession none(opener("turboquant", 16), 0), stopped(opener("turboquant", 16), one),
      straight(opener("turboquant", 16), 0);
  for (ChatSession* each : {&none, &stopped, &straight}) {
    say(*each, passage(30));
    if (each != &straight) say(*each, "Why?");
  }
  CHECK(none.undo());
  CHECK(computed_again(none) == none.position());
  CHECK(say(stopped, "Why?").size() > 0);
  CHECK(stopped.undo());
  CHECK(stopped.undo());
  int chunks = 0;
  CHECK_FALSE(stopped.catch_up([&](int, int) { return ++chunks < 15; }));
  CHECK(computed_again(stopped) == stopped.position() - 15 * 16);
  const std::vector<int> expected = say(straight, questions[1]);
  for (ChatSession* each : {&none, &stopped}) {
    CHECK(say(*each, questions[1]) == expected);
    CHECK(saved(*each) == saved(straight));
  }
}

TEST_CASE("on the exact path the logits after undo are those of a fresh prefill to f32 rounding" *
          doctest::skip(tqkv::test::sanitized)) {
  for (const std::string format : {"baseline", "turboquant"})
    for (const std::uint64_t budget : {std::uint64_t{0}, plenty}) {
      CAPTURE(format);
      CAPTURE(budget);
      ChatSession chat(opener(format, 32, Precision::f32), budget);
      for (const std::string& text : {passage(8), questions[1], passage(4)}) say(chat, text);
      CHECK(chat.undo());
      say(chat, questions[2]);
      CHECK(chat.undo());
      GenerateOptions options = greedy();
      options.max_tokens = 1;  // logits of the prompt's last id stay
      chat.say(tokenizer(), ids(passage(3)), options, {});
      const auto fresh = last_logits(pocket(Precision::f32), KvFormat::parse(format), chat.session().ids(), 1);
      const Agreement agreement = compare(fresh, logits(chat), pocket(Precision::f32).config().vocab_size);
      // As in tests/runtime/session_test.cpp: rounding can move a key over a threshold of its code.
      CHECK(agreement.mean_kl < (format == "baseline" ? 1e-8 : 1e-5));
      CHECK(agreement.same_top == 1.0);
    }
}

TEST_CASE("a new first prompt that is stopped or fails in the middle leaves the conversation as it was" *
          doctest::skip(tqkv::test::sanitized)) {
  const std::uint64_t one = state_bytes();
  for (const std::uint64_t budget : {std::uint64_t{0}, 3 * one}) {
    CAPTURE(budget);
    ChatSession chat(opener("turboquant", 16), budget), straight(opener("turboquant", 16), 0);
    for (ChatSession* each : {&chat, &straight}) {
      say(*each, passage(12));
      say(*each, questions[1]);
    }
    say(chat, questions[2]);
    const std::vector<int> other = ids("Be brief. " + passage(12));
    int chunks = 0;
    CHECK_FALSE(chat.rebuild(opener("turboquant", 16), other, [&](int, int) { return ++chunks < 6; }));
    struct Broken {};
    const auto fails = [&](int done, int) -> bool { return done < 150 ? true : throw Broken{}; };
    CHECK_THROWS_AS(chat.rebuild(opener("turboquant", 16), other, fails), Broken);
    const auto refuses = []() -> std::unique_ptr<Session> { throw Broken{}; };
    CHECK_THROWS_AS(chat.rebuild(refuses, other, {}), Broken);
    CHECK(chat.turns() == 3);
    CHECK(chat.undo());
    CHECK(chat.pending() == straight.pending());
    CHECK(say(chat, questions[3]) == say(straight, questions[3]));
    CHECK(saved(chat) == saved(straight));
    CHECK(chat.rebuild(opener("turboquant", 16), other, {}));
    CHECK(chat.snapshot_bytes() <= budget);
    CHECK(std::ranges::equal(chat.session().ids().first(other.size()), other));
  }
}

TEST_CASE("the state of a session that was computed elsewhere is kept whatever the budget, until it is computed here" *
          doctest::skip(tqkv::test::sanitized)) {
  const std::uint64_t one = state_bytes();
  for (const std::uint64_t budget : {std::uint64_t{0}, 2 * one, plenty}) {
    CAPTURE(budget);
    auto session = opener("turboquant", 16)();
    session->prefill(ids(passage(12)));
    const int base = session->position();
    ChatSession chat(opener("turboquant", 16), budget);
    chat.adopt(std::move(session), {});
    CHECK(chat.snapshot_bytes() == one);
    const std::vector<int> answer = say(chat, passage(20));
    for (int turn = 0; turn < 4; ++turn) {
      say(chat, questions[0]);
      CHECK(chat.snapshot_bytes() <= std::max(budget, one));
    }
    while (chat.undo()) continue;
    CHECK(computed_again(chat) == 0);
    CHECK(chat.session().position() == base);
    CHECK(say(chat, passage(20)) == answer);
    CHECK(chat.rebuild(opener("turboquant", 16), std::nullopt, {}));
    CHECK(chat.snapshot_bytes() <= budget);
    CHECK(chat.undo());
    CHECK(chat.session().position() == base);
  }
}

TEST_CASE("a copy of the state takes what the memory plan counts for it, a window with it" *
          doctest::skip(tqkv::test::sanitized)) {
  for (const std::string format : {"turboquant", "turboquant:window=20", "trellis:window=300:sink=3"}) {
    CAPTURE(format);
    PlanRequest request;
    request.session.context = 4096;
    request.snapshots = 1;
    const std::uint64_t one =
        plan_memory(pocket(Precision::fast).config(), 0, KvFormat::parse(format), request).snapshots;
    ChatSession chat(opener(format, 70), plenty);
    say(chat, passage(50));
    CHECK(chat.snapshots() >= 6);
    CHECK(chat.snapshot_bytes() <= one * static_cast<std::uint64_t>(chat.snapshots()));
  }
}

TEST_CASE("a turn stands after what was said, with the end that a cut answer lacks") {
  ChatSession chat(opener("turboquant"), plenty);
  const std::vector<ChatPiece> turn = ChatTemplate(ChatVariant::plain).render(user_message("Why?"), {});
  const auto placed = [&] { return text_of(chat.placed(turn, tokenizer())); };
  CHECK(placed() == text_of(turn));
  GenerateOptions options = greedy();
  options.max_tokens = 2;
  chat.say(tokenizer(), ids(questions[0]), options);
  CHECK(placed() == "<|im_end|>\n" + text_of(turn));
  options.max_tokens = 200;
  options.stop_ids = {*end_of_turn(tokenizer())};
  REQUIRE(chat.say(tokenizer(), ids("Hi, what can you help me with?"), options).reason == FinishReason::stop);
  CHECK(placed() == "\n" + text_of(turn));
}

TEST_CASE("the plan of a chat has the copies that its budget has room for, and one of a session that is resumed") {
  const Model model(Checkpoint::open(pocket_directory()));
  const auto copies = [&](std::uint64_t budget, bool adopted) {
    return plan_chat(model, KvFormat::usual(), {.session = {.context = 4096}}, budget, adopted).snapshots;
  };
  const std::uint64_t one = copies(0, true);
  CHECK(one > 0);
  CHECK(copies(0, false) == 0);
  CHECK(copies(one - 1, false) == 0);
  CHECK(copies(3 * one + 1, true) == 3 * one);
}
