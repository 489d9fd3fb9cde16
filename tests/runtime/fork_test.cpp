// Engine::fork: two sessions with a beginning in common.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "support/reference.h"
#include "support/sanitized.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

std::vector<int> document(int first, int count) {
  const auto ids = pocket_reference().at("needle.ids").ints();
  return {ids.begin() + first, ids.begin() + first + count};
}

std::vector<float> fed(Session& session, const std::vector<int>& ids) {
  const auto logits = session.prefill(ids);
  return {logits.begin(), logits.end()};
}

}  // namespace

TEST_CASE("a fork has the bits of its session, whatever happens to either afterwards") {
  const Engine& engine = pocket(Precision::fast);
  std::vector<const char*> formats = {"turboquant:split=1:window=20", "trellis:bits=3:sink=300:mean=270"};
  if (!sanitized) formats.insert(formats.end(), {"default", "qjl", "turboquant:window=300", "baseline"});
  for (const char* text : formats) {
    CAPTURE(text);
    const KvFormat format = KvFormat::parse(text);
    const std::vector<int> beginning = document(0, 600), one = document(700, 40), other = document(800, 70);
    const auto alone = [&](const std::vector<int>& next) {
      const auto session = engine.open(format);
      session->prefill(beginning);
      return fed(*session, next);
    };
    auto session = engine.open(format);
    session->prefill(beginning);
    const auto at = session->snapshot();
    session->prefill(other);  // continues, into the same page
    const auto forked = engine.fork(*session, *at);
    CHECK(forked->position() == 600);
    CHECK(forked->logits().empty());
    CHECK(std::vector<int>(forked->ids().begin(), forked->ids().end()) == beginning);
    const auto second = engine.fork(*session, *at);
    const auto at_end = engine.fork(*session, *session->snapshot());
    CHECK(std::ranges::equal(at_end->logits(), session->logits()));
    CHECK(fed(*forked, one) == alone(one));
    CHECK(session->cache().bytes.kv_shared > 0);
    CHECK(session->cache().bytes.kv_shared < session->cache().bytes.kv_allocated);

    // The first goes back into a page that is shared, and writes other tokens there.
    session->restore(*at);
    CHECK(fed(*session, one) == alone(one));
    const auto early = engine.open(format);
    early->prefill(document(0, 300));
    const auto at_300 = early->snapshot();
    early->prefill(document(300, 300));
    const auto later = early->snapshot();
    const auto child = engine.fork(*early, *later);
    early->restore(*at_300);
    early->prefill(other);
    CHECK(fed(*child, one) == [&] {
      const auto whole = engine.open(format);
      whole->prefill(document(0, 300));
      whole->prefill(document(300, 300));
      return fed(*whole, one);
    }());

    session.reset();
    CHECK(fed(*second, other) == alone(other));
    CHECK(second->cache().bytes.kv_shared > 0);  // with the first fork
  }
}

TEST_CASE("what cannot be forked is refused") {
  const Engine& engine = pocket(Precision::fast);
  const auto session = engine.open(KvFormat::usual()), other = engine.open(KvFormat::usual());
  session->prefill(document(0, 20));
  other->prefill(document(0, 20));
  const auto at = session->snapshot();
  CHECK_THROWS_AS(engine.fork(*other, *at), Error);
  SessionOptions small;
  small.context = 10;
  CHECK_THROWS_WITH_AS(engine.fork(*session, *at, small), "[input] fork: 20 tokens do not fit a context of 10", Error);
}
