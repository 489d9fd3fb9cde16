// Pieces: a prompt that is cut has the bits of its pieces alone, whatever pass they are in, and snapshots between them.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "support/failure.h"
#include "support/reference.h"
#include "support/sanitized.h"
#include "support/sessions.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

std::vector<float> copied(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

SessionOptions cut_options(int chunk, StateType state = StateType::f32) {
  SessionOptions options;
  options.context = 2048;
  options.prefill_chunk = chunk;
  options.state = state;
  return options;
}

constexpr const char* cut_formats[] = {"default",
                                       "baseline",
                                       "turboquant:bits=3:sink=2",
                                       "trellis:bits=2:window=5",
                                       "default:bits=3:mean=70:window=8",
                                       "turboquant:split=1",
                                       "mlx_quant:bits=8"};

}  // namespace

TEST_CASE("pieces in one pass have the bits that each has when it is appended alone" * doctest::skip(sanitized)) {
  const std::vector<int> ids = some_ids(1, 700);
  const std::vector<int> ends{3, 20, 21, 84, 90, 94, 350, 606, 699};  // also pieces of 1 to 6 ids
  for (const Precision precision : {Precision::fast, Precision::f32}) {
    const Engine& engine = pocket(precision);
    for (const char* format : cut_formats) {
      if (precision == Precision::f32 && format != cut_formats[0] && format != cut_formats[1]) continue;  // slow there
      CAPTURE(format);
      CAPTURE(name(precision));
      const StateType state =
          precision == Precision::fast && std::string_view(format) == "baseline" ? StateType::bf16 : StateType::f32;
      const auto alone = engine.open(KvFormat::parse(format), cut_options(2048, state));
      std::vector<std::vector<float>> logits;  // after each piece
      int begin = 0;
      for (std::size_t i = 0; i <= ends.size(); ++i) {
        const int end = i < ends.size() ? ends[i] : 700;
        logits.push_back(copied(alone->prefill(
            std::span(ids).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)))));
        begin = end;
      }
      const std::string expected = saved(*alone);
      for (const int chunk : {2048, 300}) {
        CAPTURE(chunk);
        const auto cut = engine.open(KvFormat::parse(format), cut_options(chunk, state));
        const std::vector<int> kept{84, 90, 606, 700};
        std::vector<std::unique_ptr<Snapshot>> snapshots;
        PrefillOptions options;
        options.pieces = {ends, kept, [&](std::unique_ptr<Snapshot> one) { snapshots.push_back(std::move(one)); }};
        CHECK(copied(cut->prefill(ids, options)) == logits.back());
        CHECK((saved(*cut) == expected));
        REQUIRE(snapshots.size() == kept.size());
        for (std::size_t i = 0; i < kept.size(); ++i) {
          CHECK(snapshots[i]->position() == kept[i]);
          const auto forked = engine.fork(*cut, *snapshots[i], cut_options(chunk, state));
          PrefillOptions rest;  // the same cuts behind the fork
          std::vector<int> later;
          for (const int end : ends)
            if (end > kept[i]) later.push_back(end - kept[i]);
          rest.pieces.ends = later;
          if (kept[i] == 700) continue;
          CHECK(copied(forked->prefill(std::span(ids).subspan(static_cast<std::size_t>(kept[i])), rest)) ==
                logits.back());
          CHECK((saved(*forked) == expected));
        }
        cut->restore(*snapshots[1]);
        std::vector<int> later{4, 260, 516, 609};  // 94, 350, 606, 699
        PrefillOptions again;
        again.pieces.ends = later;
        CHECK(copied(cut->prefill(std::span(ids).subspan(90), again)) == logits.back());
      }
    }
  }
}

TEST_CASE("pieces of several sessions and decoded tokens share a pass, and all have the bits that they have alone") {
  const Engine& engine = pocket(Precision::fast);
  const std::vector<int> ids = some_ids(7, 300), others = some_ids(8, 150), one{5};
  const std::vector<int> ends{40, 104, 168}, other_ends{64, 128}, kept{104};
  const auto open = [&](const char* format) { return engine.open(KvFormat::parse(format), cut_options(512)); };
  const auto cut_alone = [&](const char* format, const std::vector<int>& all, const std::vector<int>& cuts) {
    auto session = open(format);
    PrefillOptions options;
    options.pieces.ends = cuts;
    session->prefill(all, options);
    return session;
  };
  const auto a = open("default"), b = open("turboquant"), c = open("default");
  c->prefill(std::span(ids).first(50));
  std::unique_ptr<Snapshot> snapshot;
  std::vector<Work> work{{a.get(), ids}, {c.get(), one}, {b.get(), others}};
  work[0].pieces = {ends, kept, [&](std::unique_ptr<Snapshot> taken) { snapshot = std::move(taken); }};
  work[2].pieces.ends = other_ends;
  engine.step(work);
  for (const Work& part : work) REQUIRE_FALSE(part.error);
  CHECK((saved(*a) == saved(*cut_alone("default", ids, ends))));
  CHECK((saved(*b) == saved(*cut_alone("turboquant", others, other_ends))));
  const auto decoded = open("default");
  decoded->prefill(std::span(ids).first(50));
  decoded->decode(5);
  CHECK((saved(*c) == saved(*decoded)));
  REQUIRE(snapshot);
  CHECK(snapshot->position() == 104);
}

TEST_CASE("a pass takes whole pieces as long as they fit") {
  const std::vector<int> ends{100, 356, 359, 400, 1400};
  const Pieces pieces{ends};
  CHECK(pieces.next_pass(1500, 0, 2048) == 356);  // a piece of 3 ids is next: alone
  CHECK(pieces.next_pass(1500, 356, 2048) == 3);
  CHECK(pieces.next_pass(1500, 359, 2048) == 1141);
  CHECK(pieces.next_pass(1500, 359, 1100) == 1041);  // 400 to 1,400 and 41 before it
  CHECK(pieces.next_pass(1500, 359, 500) == 41);
  CHECK(pieces.next_pass(1500, 400, 500) == 500);  // a longer piece is cut
  CHECK(pieces.next_pass(1500, 900, 500) == 500);
  CHECK(Pieces{}.next_pass(1500, 0, 2048) == 1500);
  CHECK(Pieces{}.next_pass(1500, 0, 512) == 512);
}

TEST_CASE("cuts that are not of the ids are refused") {
  const Engine& engine = pocket(Precision::fast);
  const auto session = engine.open(KvFormat::usual(), cut_options(512));
  const std::vector<int> ids = some_ids(3, 20);
  const auto refused = [&](std::vector<int> ends, std::vector<int> kept) {
    PrefillOptions options;
    options.pieces = {ends, kept, [](std::unique_ptr<Snapshot>) {}};
    CHECK(contains(failure(ErrorKind::internal, [&] { session->prefill(ids, options); }), "the cuts are not those of"));
    CHECK(session->position() == 0);
  };
  refused({0, 5}, {});
  refused({5, 20}, {});
  refused({6, 5}, {});
  refused({5, 5}, {});
  refused({5}, {6});
  refused({5}, {21});
}
