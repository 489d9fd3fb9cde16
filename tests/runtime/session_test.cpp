// What must not change the result: chunks, threads, neighbours, going back.
#include <doctest/doctest.h>

#include <cmath>
#include <thread>

#include "cache/accounting.h"
#include "support/failure.h"
#include "support/reference.h"
#include "support/sanitized.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

std::vector<int> document(int count) {
  auto ids = pocket_reference().at("needle.ids").ints();
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return worst;
}

SessionOptions context_of(int tokens, int chunk = 2048) {
  SessionOptions options;
  options.context = tokens;
  options.prefill_chunk = chunk;
  return options;
}

/// Logits of the last ids, which are fed one by one like the first ones: between them a window goes past a chunk.
std::vector<float> stepwise_logits(const Engine& engine, const KvFormat& format, const std::vector<int>& ids,
                                   int last) {
  constexpr int first = 20, chunk = 200;
  const auto session = engine.open(format, context_of(static_cast<int>(ids.size())));
  std::vector<float> logits;
  for (int i = 0; i < static_cast<int>(ids.size()); ++i) {
    if (i == first) session->prefill(std::span(ids).subspan(first, chunk));
    if (i >= first && i < first + chunk) continue;
    const auto row = session->decode(ids[static_cast<std::size_t>(i)]);
    if (i >= static_cast<int>(ids.size()) - last) logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

const std::vector<std::string> formats{"baseline",
                                       "mlx_quant",
                                       "mlx_quant:bits=8",
                                       "rotated_quant",
                                       "turboquant",
                                       "turboquant:bits=2.5",
                                       "turboquant:k=5:v=16",
                                       "turboquant:k=16:v=2",
                                       "trellis:bits=3.5",
                                       "turboquant_prod:bits=3",
                                       "qjl",
                                       "polarquant",
                                       "sketch",
                                       "mlx_quant:k=3:v=6:group=32",
                                       "turboquant:split=1:bits=2.5",
                                       "turboquant:window=50:sink=3",
                                       "turboquant:k=5:v=3:values=trellis:mean=64:window=128",
                                       "trellis:mean=260:layers=3/k=2,7/v=8",
                                       "trellis:k=5:v=3:mean=5:window=9:states=4/8",
                                       "qjl:rows=512:projection=gaussian:v=16:window=300"};
// Every option alone and together, and every codec that has a rule about positions.
const std::vector<std::string> positional{"turboquant:window=50",
                                          "turboquant:window=1",
                                          "turboquant:sink=4",
                                          "turboquant:window=70:sink=70",
                                          "turboquant:window=300:sink=3:v=16",
                                          "turboquant:split=1:bits=3",
                                          "turboquant:split=1:k=16:v=2",
                                          "turboquant:split=1:bits=2:window=40:sink=5",
                                          "mlx_quant:bits=3:window=64",
                                          "sketch:window=32:sink=1",
                                          "qjl:window=128",
                                          "trellis:bits=2.5:sink=10",
                                          "turboquant_prod:bits=3:window=20",
                                          "polarquant:sink=300",
                                          "turboquant:mean=16",
                                          "turboquant:k=5:v=3:values=trellis:mean=64:window=128:sink=80",
                                          "mlx_quant:mean=100:layers=3/k=8,7/v=16",
                                          "trellis:mean=300:window=20"};

}  // namespace

TEST_CASE("on the exact path chunks of 1, 7, 64, 256 and all give the same logits to f32 rounding" *
          doctest::skip(test::sanitized)) {
  const auto ids = document(333);
  const auto& engine = pocket(Precision::f32);
  for (const auto& text : {"baseline", "turboquant"}) {
    const auto format = KvFormat::parse(text);
    const auto whole = last_logits(engine, format, ids, 16);
    for (const int chunk : {1, 7, 64, 256}) {
      CAPTURE(chunk);
      const auto cut = last_logits(engine, format, ids, 16, context_of(333, chunk));
      const auto result = compare(whole, cut, engine.config().vocab_size);
      MESSAGE(text << ", chunk " << chunk << ": mean KL " << result.mean_kl << ", largest difference "
                   << largest_difference(whole, cut));
      // A key that rounding moves over a threshold of its code changes a packed cache by a whole step.
      CHECK(result.mean_kl < (format.backend == Backend::baseline ? 1e-8 : 1e-5));
      CHECK(result.same_top == 1.0);
    }
  }
}

TEST_CASE("options are functions of absolute positions: chunks of 1, 7, 64, 256 and all give the same logits" *
          doctest::skip(test::sanitized)) {
  const auto ids = document(333);
  const auto& engine = pocket(Precision::f32);
  for (const auto& text : positional) {
    CAPTURE(text);
    const auto format = KvFormat::parse(text);
    const auto whole = last_logits(engine, format, ids, 16);
    const auto one_by_one = stepwise_logits(engine, format, ids, 16);
    CHECK(compare(whole, one_by_one, engine.config().vocab_size).median_kl < 1e-6);
    for (const int chunk : {7, 64, 256}) {
      CAPTURE(chunk);
      const auto cut = last_logits(engine, format, ids, 16, context_of(333, chunk));
      CHECK(compare(whole, cut, engine.config().vocab_size).median_kl < 1e-6);
    }
  }
}

TEST_CASE("a window or a sink that holds everything is the cache in bf16, whatever the codec" *
          doctest::skip(test::sanitized)) {
  const auto ids = document(300);
  const auto& engine = pocket(Precision::f32);
  const auto baseline = last_logits(engine, KvFormat::of(Backend::baseline), ids, 64);
  const auto kl = [&](const std::string& text) {
    return compare(baseline, last_logits(engine, KvFormat::parse(text), ids, 64), 8192).mean_kl;
  };
  for (const Backend backend : all_backends()) {
    if (backend == Backend::baseline) continue;
    const std::string name(tqkv::name(backend));
    CAPTURE(name);
    CHECK(kl(name + ":window=300") < 3e-4);
    CHECK(kl(name + ":sink=300") < 3e-4);
    CHECK(kl(name + ":window=200:sink=150") < 3e-4);  // they overlap
  }
  CHECK(kl("turboquant:split=1:bits=2:window=300") < 3e-4);
  CHECK(kl("turboquant:bits=2") > 3e-3);
}

TEST_CASE("every key is seen once: where a codec loses little, options change little" *
          doctest::skip(tqkv::test::sanitized)) {
  const auto ids = document(400);
  const auto& engine = pocket(Precision::f32);
  const auto baseline = last_logits(engine, KvFormat::of(Backend::baseline), ids, 200);
  for (const std::string text : {"mlx_quant:bits=8", "mlx_quant:bits=8:window=50", "mlx_quant:bits=8:sink=5",
                                 "mlx_quant:bits=8:window=90:sink=37", "mlx_quant:bits=8:window=1:sink=1"}) {
    CAPTURE(text);
    CHECK(compare(baseline, last_logits(engine, KvFormat::parse(text), ids, 200, context_of(400, 150)), 8192).mean_kl <
          3e-4);
  }
}

TEST_CASE("one thread and many give the same bits" * doctest::skip(test::sanitized)) {
  const auto ids = document(320);
  for (const auto precision : {Precision::fast, Precision::f32})
    for (const auto& text :
         precision == Precision::fast ? formats : std::vector<std::string>{"baseline", "turboquant"}) {
      CAPTURE(text);
      const auto format = KvFormat::parse(text);
      const auto run = [&](int threads) {
        const auto session = pocket(precision, {}, threads).open(format, context_of(800));
        const auto prefill = session->prefill(ids);
        std::vector<float> out(prefill.begin(), prefill.end());
        for (const int id : {5, 77, 1234}) {
          const auto row = session->decode(id);
          out.insert(out.end(), row.begin(), row.end());
        }
        return out;
      };
      const auto one = run(1);
      CHECK(run(2) == one);
      CHECK(run(5) == one);
    }
}

TEST_CASE("sessions side by side on threads give what each gives alone" * doctest::skip(tqkv::test::sanitized)) {
  const auto& engine = pocket(Precision::fast);
  const auto ids = document(200);
  const auto alone = [&](const std::string& text) { return greedy(engine, KvFormat::parse(text), ids, 12); };
  std::vector<std::vector<int>> expected, found(formats.size());
  for (const auto& text : formats) expected.push_back(alone(text));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < formats.size(); ++i) threads.emplace_back([&, i] { found[i] = alone(formats[i]); });
  for (auto& thread : threads) thread.join();
  CHECK(found == expected);
}

TEST_CASE("a session that went back to a snapshot goes on as if nothing had been there" *
          doctest::skip(test::sanitized)) {
  for (const auto state : {StateType::f32, StateType::bf16})
    for (const auto& text : formats) {
      if (state == StateType::bf16 && text != formats.front() && text != formats.back())
        continue;  // the state is the format's neighbour only
      CAPTURE(text);
      auto options = context_of(1200);
      options.state = state;
      const auto session = pocket(Precision::fast).open(KvFormat::parse(text), options);
      const auto ids = document(300);
      session->prefill(ids);
      const auto snapshot = session->snapshot();
      CHECK(snapshot->position() == 300);
      if (!KvFormat::parse(text).window && !KvFormat::parse(text).mean)
        CHECK(snapshot->bytes() == session->cache().bytes.state());
      const auto first = session->decode(17);
      const std::vector<float> expected(first.begin(), first.end());
      session->prefill(document(250));
      session->restore(*snapshot);
      CHECK(session->position() == 300);
      CHECK(session->cache().bytes.kv_allocated ==
            cache::cache_bytes(pocket(Precision::fast).config(), KvFormat::parse(text), 300, state).kv_allocated);
      const auto second = session->decode(17);
      CHECK(std::vector<float>(second.begin(), second.end()) == expected);
    }
}

TEST_CASE("a session that went back before the mean was known takes it from what is fed then" *
          doctest::skip(test::sanitized)) {
  const KvFormat format = KvFormat::parse("turboquant:mean=64:window=20");
  const auto ids = document(200);
  const auto session = pocket(Precision::fast).open(format, context_of(400));
  session->prefill(std::span(ids).first(30));
  const auto snapshot = session->snapshot();
  session->prefill(std::span(ids).subspan(100, 90));  // another text, past the mean's tokens
  session->restore(*snapshot);
  const auto again = session->prefill(std::span(ids).subspan(30, 100));
  const auto fresh = pocket(Precision::fast).open(format, context_of(400));
  fresh->prefill(std::span(ids).first(30));
  const auto expected = fresh->prefill(std::span(ids).subspan(30, 100));
  CHECK(std::vector<float>(again.begin(), again.end()) == std::vector<float>(expected.begin(), expected.end()));
}

TEST_CASE("layers that have no cache, or do not exist, are refused by name") {
  const auto& engine = pocket(Precision::fast);
  const auto refusal = [&](const std::string& text) {
    return failure(ErrorKind::format, [&] { engine.open(KvFormat::parse(text), context_of(16)); });
  };
  CHECK(contains(refusal("turboquant:layers=4/k=8"),
                 "layer 4 has a recurrent state instead: the layers with a key-value cache are 3, 7"));
  CHECK(contains(refusal("turboquant:layers=9/k=8"), "there is no layer 9: the layers"));
  CHECK(contains(refusal("turboquant:layers=3,7/k=16/v=16"), "nothing to compress"));
}

TEST_CASE("a snapshot of another session or of the future is refused") {
  const auto& engine = pocket(Precision::fast);
  const auto one = engine.open(KvFormat::of(Backend::baseline), context_of(64)),
             other = engine.open(KvFormat::of(Backend::baseline), context_of(64));
  one->prefill(document(8));
  other->prefill(document(8));
  const auto snapshot = one->snapshot();
  CHECK_THROWS_AS(other->restore(*snapshot), Error);
  one->prefill(document(4));
  const auto future = one->snapshot();
  one->restore(*snapshot);
  CHECK_THROWS_AS(one->restore(*future), Error);  // its tokens are not there any more
  CHECK(one->position() == 8);

  // Nor are they when others stand in their place.
  one->prefill(document(10));
  CHECK(one->position() == 18);
  CHECK_THROWS_AS(one->restore(*future), Error);
  CHECK_THROWS_AS(engine.fork(*one, *future, context_of(64)), Error);
  const auto now = one->snapshot();
  one->prefill(document(3));
  one->restore(*now);
  one->restore(*now);
  CHECK(one->position() == 18);
  one->restore(*snapshot);
  CHECK(one->position() == 8);
  CHECK_THROWS_AS(one->restore(*now), Error);
}

TEST_CASE("the bytes reported are the bytes that the accounting predicts" * doctest::skip(test::sanitized)) {
  const auto& config = pocket(Precision::fast).config();
  const auto ids = document(257);
  for (const auto state : {StateType::f32, StateType::bf16})
    for (const auto precision : {Precision::fast, Precision::f32})
      for (const auto& text : formats) {
        if (state == StateType::bf16 && text != formats.front()) continue;  // the state is the format's neighbour only
        auto options = context_of(512);
        options.state = state;
        const auto session = pocket(precision).open(KvFormat::parse(text), options);
        for (const int tokens : {1, 255, 256, 257}) {
          session->prefill(std::span(ids).subspan(static_cast<std::size_t>(session->position()),
                                                  static_cast<std::size_t>(tokens - session->position())));
          if (precision == Precision::f32 && tokens < 256) continue;  // it changes the width of plain values alone
          CAPTURE(text);
          CAPTURE(tokens);
          const auto format = cache::as_stored(KvFormat::parse(text), precision);
          const auto predicted = cache::cache_bytes(config, format, tokens, state, precision);
          const auto measured = session->cache();
          CHECK(measured.format == format);
          CHECK(measured.encode_s > 0);
          CHECK(measured.bytes.kv_used == predicted.kv_used);
          CHECK(measured.bytes.kv_allocated == predicted.kv_allocated);
          CHECK(measured.bytes.recurrent == predicted.recurrent);
          CHECK(measured.bytes.convolution == predicted.convolution);
          REQUIRE(measured.layers.size() == 2);
          CHECK(measured.layers[0].layer == 3);
          CHECK(measured.layers[1].layer == 7);
          CHECK(measured.layers[0].k == format.sides(3, 0, 2).k);
          CHECK(measured.layers[1].v == format.sides(7, 1, 2).v);
        }
      }
}

TEST_CASE("ids out of range, an overflowing context and impossible options are refused") {
  const auto& engine = pocket(Precision::fast);
  const auto session = engine.open(KvFormat::of(Backend::turboquant), context_of(16));
  CHECK_THROWS_WITH_AS(session->prefill(std::vector<int>{1, 8192}),
                       "[input] token 1: id 8192 is not between 0 and 8191", Error);
  CHECK_THROWS_AS(session->decode(-1), Error);
  CHECK_THROWS_AS(session->prefill({}), Error);
  CHECK_THROWS_WITH_AS(session->prefill(document(17)), "[input] 17 tokens after 0 do not fit a context of 16", Error);
  session->prefill(document(16));
  CHECK_THROWS_AS(session->decode(1), Error);
  CHECK_THROWS_AS(engine.open(KvFormat::of(Backend::baseline), context_of(32769)), Error);
  CHECK_THROWS_AS(engine.open(KvFormat::of(Backend::baseline), context_of(16, 0)), Error);
  CHECK(session->position() == 16);
}

TEST_CASE("progress is told after every chunk and can stop there") {
  const auto session = pocket(Precision::fast).open(KvFormat::of(Backend::turboquant), context_of(256, 50));
  std::vector<int> seen;
  PrefillOptions options;
  options.progress = [&](int done) {
    seen.push_back(done);
    return done < 100;
  };
  CHECK(session->prefill(document(180), options).empty());
  CHECK(seen == std::vector<int>{50, 100});
  CHECK(session->position() == 100);
}

TEST_CASE("a bf16 state stays near the f32 state") {
  const auto ids = document(400);
  const auto run = [&](StateType state) {
    auto options = context_of(400, 100);
    options.state = state;
    return last_logits(pocket(Precision::f32), KvFormat::of(Backend::baseline), ids, 50, options);
  };
  const auto result = compare(run(StateType::f32), run(StateType::bf16), 8192);
  MESSAGE("mean KL " << result.mean_kl);
  CHECK(result.mean_kl > 0);
  CHECK(result.mean_kl < 1e-2);
}
