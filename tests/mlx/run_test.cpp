// Ids that the device draws while the next step is under way.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <stdexcept>

#include "mlx/support.h"
#include "runtime/mlx/draw.h"
#include "support/failure.h"
#include "tqkv/error.h"
#include "tqkv/sampling.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

namespace mx = ::mlx::core;

constexpr int vocab = 3000;

std::vector<float> random_logits(unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> logits(vocab);
  for (float& value : logits) value = normal(random);
  return logits;
}

int drawn(const Sampler& sampler, const std::vector<float>& logits, std::uint64_t position) {
  mx::array id =
      tqkv::mlx::Draw(sampler)(mx::array(logits.begin(), {static_cast<int>(logits.size())}, mx::float32), position);
  return id.item<int>();
}

Sampling sampling(float temperature, int top_k, float top_p, float min_p) {
  Sampling own;
  own.temperature = temperature;
  own.top_k = top_k;
  own.top_p = top_p;
  own.min_p = min_p;
  own.seed = 5;
  return own;
}

struct Run {
  std::vector<int> ids, at;
  std::vector<float> logits;  // afterwards
  int position = 0;
};

/// After 20 tokens, until `stop` is drawn.
Run run(Session& session, const Sampling& how, int count, int stop = -1) {
  const std::vector<int> doc = ids_of("doc");
  session.prefill(std::span(doc).first(20));
  Sampler sampler(how);
  Run run;
  session.run(doc[20], sampler, count, [&](int id) {
    run.ids.push_back(id);
    run.at.push_back(session.position());
    return id != stop;
  });
  run.logits = copy(session.logits());
  run.position = session.position();
  return run;
}

Run of_host(Session& session, const Sampling& how, int count) {
  const std::vector<int> doc = ids_of("doc");
  session.prefill(std::span(doc).first(20));
  Sampler sampler(how);
  Run run;
  for (int id = doc[20]; count > 0; --count) {
    run.logits = copy(session.decode(id));
    run.at.push_back(session.position());
    run.ids.push_back(id = sampler.next(run.logits, static_cast<std::uint64_t>(session.position())));
  }
  run.position = session.position();
  return run;
}

}  // namespace

TEST_CASE("the device draws the ids that the sampler of the host draws") {
  int all = 0, different = 0;
  for (const Sampling& how : {sampling(0, 0, 1, 0), sampling(1, 0, 1, 0), sampling(0.7f, 20, 1, 0),
                              sampling(0.7f, 20, 0.8f, 0), sampling(1.5f, 0, 0.5f, 0), sampling(1, 0, 1, 0.1f),
                              sampling(1, 50, 0.95f, 0.05f), sampling(1, 1, 1, 0), sampling(3, 5000, 1, 0)}) {
    Sampler host(how);
    for (unsigned position = 0; position < 25; ++position) {
      const std::vector<float> logits = random_logits(position);
      ++all;
      different += drawn(host, logits, position) != host.next(logits, position) ? 1 : 0;
    }
  }
  MESSAGE(different << " of " << all << " ids differ, by ties");
  CHECK(different == 0);
}

TEST_CASE("ids that are not allowed are never drawn on the device, and logits that are not finite are told") {
  std::vector<bool> allowed(vocab, false);
  allowed[7] = allowed[2999] = true;
  for (const Sampling& how : {sampling(0, 0, 1, 0), sampling(1, 0, 1, 0), sampling(1, 20, 0.9f, 0)}) {
    Sampler host(how, allowed);
    for (unsigned position = 0; position < 10; ++position) {
      std::vector<float> logits = random_logits(position);
      CHECK(drawn(host, logits, position) == host.next(logits, position));
      logits[100] = position % 2 == 0 ? NAN : INFINITY;
      CHECK(drawn(host, logits, position) == -1);
    }
  }
}

TEST_CASE("a run gives the ids, the positions and the last logits that single steps give") {
  for (const char* format : {"baseline", "turboquant:window=6:sink=2"}) {
    CAPTURE(format);
    for (const Sampling& how : {sampling(0, 0, 1, 0), sampling(0.8f, 20, 0.9f, 0)}) {
      const KvFormat kv = KvFormat::parse(format);
      const Run ahead = run(*on_mlx().open(kv, options_of(60)), how, 8);
      const Run alone = of_host(*on_mlx().open(kv, options_of(60)), how, 8);
      CHECK(ahead.ids == alone.ids);
      CHECK(ahead.at == alone.at);
      CHECK(ahead.position == 28);
      CHECK(ahead.logits == alone.logits);
    }
  }
}

TEST_CASE("a run that is stopped leaves the session as single steps would, and it goes on from there") {
  const KvFormat format = KvFormat::parse("turboquant:window=6:mean=8");
  const auto session = on_mlx().open(format, options_of(60)), other = on_mlx().open(format, options_of(60));
  const Run whole = of_host(*other, sampling(0, 0, 1, 0), 5);
  const Run stopped = run(*session, sampling(0, 0, 1, 0), 40, whole.ids[4]);
  REQUIRE(stopped.ids == whole.ids);
  CHECK(session->position() == other->position());
  CHECK(stopped.logits == whole.logits);
  CHECK(session->cache().bytes.kv_allocated == other->cache().bytes.kv_allocated);
  for (const int id : {5, 6}) CHECK(copy(session->decode(id)) == copy(other->decode(id)));
}

TEST_CASE("a run ends where the context is full, with every id before it") {
  const auto session = on_mlx().open(KvFormat::parse("baseline"), options_of(24));
  std::vector<int> ids;
  const auto go = [&] {
    const std::vector<int> doc = ids_of("doc");
    session->prefill(std::span(doc).first(20));
    Sampler sampler(sampling(0, 0, 1, 0));
    session->run(doc[20], sampler, 100, [&](int id) {
      ids.push_back(id);
      return true;
    });
  };
  CHECK(contains(failure(ErrorKind::input, go), "1 tokens after 24 do not fit a context of 24"));
  CHECK(ids.size() == 4);
  CHECK(session->position() == 24);
  CHECK(session->logits().size() == 8192);
}

TEST_CASE("a run whose callback throws leaves the session with the ids before, and no logits of others") {
  const auto session = on_mlx().open(KvFormat::parse("baseline"), options_of(60));
  const std::vector<int> doc = ids_of("doc");
  session->prefill(std::span(doc).first(20));
  Sampler sampler(sampling(0, 0, 1, 0));
  int id = 0;
  const auto go = [&] {
    session->run(doc[20], sampler, 5, [&](int drawn) -> bool {
      id = drawn;
      throw std::runtime_error("a full disk");
    });
  };
  CHECK_THROWS_AS(go(), std::runtime_error);
  CHECK(session->position() == 21);
  CHECK(session->logits().empty());
  const auto other = on_mlx().open(KvFormat::parse("baseline"), options_of(60));
  other->prefill(std::span(doc).first(20));
  other->decode(doc[20]);
  CHECK(copy(session->decode(id)) == copy(other->decode(id)));
}

TEST_CASE("with a penalty the host draws, and the ids are those of single steps") {
  Sampling how = sampling(0.8f, 20, 0.9f, 0);
  how.repetition_penalty = 1.3f;
  const KvFormat format = KvFormat::parse("baseline");
  CHECK(run(*on_mlx().open(format, options_of(60)), how, 5).ids ==
        of_host(*on_mlx().open(format, options_of(60)), how, 5).ids);
}
