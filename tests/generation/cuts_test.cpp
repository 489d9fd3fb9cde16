// CutRule: cuts follow from the ids alone, and a prompt has the same bits whatever beginning of it was there before.
#include "tqkv/cuts.h"

#include <doctest/doctest.h>

#include <rapidcheck.h>

#include <vector>

#include "support/reference.h"
#include "support/sessions.h"
#include "tqkv/generation.h"
#include "tqkv/model.h"

using namespace tqkv;
using namespace tqkv::test;

TEST_CASE("cuts stand in front of each message and every so many ids from there") {
  const CutRule rule{4, 9};
  const std::vector<int> ids{9, 1, 2, 3, 4, 5, 9, 1, 9, 9, 1, 1, 1, 1, 1};
  CHECK(rule.ends({}, ids) == std::vector<int>{4, 6, 8, 9, 13});
  CHECK(CutRule{4, {}}.ends({}, ids) == std::vector<int>{4, 8, 12});
  CHECK(CutRule{4, 77}.ends({}, ids) == std::vector<int>{4, 8, 12});
  CHECK(rule.ends({}, std::vector<int>{}).empty());
}

TEST_CASE("what stands before changes no cut") {
  CHECK(rc::check([] {
    const auto ids = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 6));
    const CutRule rule{*rc::gen::inRange(1, 9), *rc::gen::element<std::optional<int>>(std::nullopt, 0, 3)};
    const std::vector<int> all = rule.ends({}, ids);
    const auto at = static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(ids.size()) + 1));
    std::vector<int> parted;
    for (const int end : all)
      if (static_cast<std::size_t>(end) > at) parted.push_back(end - static_cast<int>(at));
    RC_ASSERT(rule.ends(std::span(ids).first(at), std::span(ids).subspan(at)) == parted);
  }));
}

TEST_CASE("an answer has the same bits whatever passes its prompt is read in, and after a fork inside it") {
  Model model = Model::open(pocket_directory().string());
  const Engine& engine = model.load({cpu_device({}, 1), Precision::fast, {}});
  Conversation talk;
  talk.messages = R"([{"role":"system","content":"You are a cat."},{"role":"user","content":"Hello! )" +
                  std::string(900, 'a') + R"("},{"role":"assistant","content":"Hi."},{"role":"user","content":"Go."}])";
  const std::vector<int> ids = encode(model.tokenizer(), model.chat().render(talk, {}));
  REQUIRE(ids.size() > 300);
  GenerateOptions options = model.generate_options({});
  options.max_tokens = 12;
  options.cuts = model.cuts(64);
  const auto open = [&](int chunk) {
    SessionOptions session;
    session.context = 2048;
    session.prefill_chunk = chunk;
    return engine.open(KvFormat::usual(), session);
  };
  const auto whole = open(2048);
  generate(*whole, model.tokenizer(), ids, options);
  const auto small = open(70);
  generate(*small, model.tokenizer(), ids, options);
  CHECK((saved(*small) == saved(*whole)));

  // In steps, with a snapshot behind the system message, and from there again.
  const auto stepped = open(128);
  std::unique_ptr<Snapshot> snapshot;
  const std::vector<int> ends = options.cuts.ends({}, ids);
  options.kept = {ends.front()};
  options.keep = [&](std::unique_ptr<Snapshot> one) { snapshot = std::move(one); };
  Generation generation(*stepped, model.tokenizer(), ids, options);
  CHECK(generation.reading());
  while (!generation.finished()) {
    std::vector<Work> work{generation.work(128)};
    engine.step(work);
    generation.accept(work[0]);
  }
  CHECK_FALSE(generation.reading());
  CHECK((saved(*stepped) == saved(*whole)));
  REQUIRE(snapshot);
  CHECK(snapshot->position() == ends.front());
  const auto forked = engine.fork(*stepped, *snapshot);
  options.kept.clear();
  generate(*forked, model.tokenizer(), std::span(ids).subspan(static_cast<std::size_t>(ends.front())), options);
  CHECK(std::vector<int>(forked->ids().begin(), forked->ids().end()) ==
        std::vector<int>(whole->ids().begin(), whole->ids().end()));
}
