// The engine on MLX, here on the processor in float32, against transformers and against the engine for the processor.
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <memory>

#include "mlx/support.h"
#include "support/failure.h"
#include "support/temporary_directory.h"
#include "tqkv/error.h"
#include "tqkv/memory_plan.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

constexpr int vocab = 8192;

KvFormat plain() {
  return KvFormat::of(Backend::baseline);
}

class HiddenStates final : public Observer {
 public:
  void hidden(int, std::span<const float> values, int) override { layers.emplace_back(values.begin(), values.end()); }
  void keys_values(int layer, std::span<const float> keys, std::span<const float>, int) override {
    seen.emplace_back(layer, keys.size());
  }
  std::vector<std::vector<float>> layers;
  std::vector<std::pair<int, std::size_t>> seen;
};

}  // namespace

TEST_CASE("MLX gives the logits of transformers") {
  for (const std::string prompt : {"doc", "chat"}) {
    const auto& logits = pocket_reference().at(prompt + ".logits_last64");
    const Agreement result = compare(
        logits.values, last_logits(on_mlx(), plain(), ids_of(prompt), static_cast<int>(logits.shape[0])), vocab);
    MESSAGE(prompt << ": mean KL " << result.mean_kl << ", maximum " << result.max_kl << ", same top "
                   << result.same_top);
    CHECK(result.mean_kl < 1e-5);
    CHECK(result.same_top > 0.98);  // the reference is rounded to f16: ties may turn
  }
}

TEST_CASE("MLX goes on greedily as transformers does") {
  const auto expected = pocket_reference().at("chat.greedy").ints();
  CHECK(greedy(on_mlx(), plain(), ids_of("chat"), static_cast<int>(expected.size())) == expected);
}

TEST_CASE("MLX shows the hidden states of transformers layer by layer") {
  const auto& reference = pocket_reference().at("chat.hidden");
  const auto ids = ids_of("chat");
  const auto session = on_mlx().open(plain(), options_of(static_cast<int>(ids.size())));
  HiddenStates seen;
  session->observe(&seen);
  session->prefill(ids);
  REQUIRE(seen.layers.size() == static_cast<std::size_t>(reference.shape[0]));
  CHECK(seen.seen.size() == static_cast<std::size_t>(on_mlx().config().attention_layers()));
  const auto size = static_cast<std::size_t>(reference.shape[1] * reference.shape[2]);
  for (std::size_t layer = 0; layer < seen.layers.size(); ++layer) {
    REQUIRE(seen.layers[layer].size() == size);
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const double expected = static_cast<double>(reference.values[layer * size + i]);
      difference += std::pow(static_cast<double>(seen.layers[layer][i]) - expected, 2);
      norm += expected * expected;
    }
    CAPTURE(layer);
    CHECK(std::sqrt(difference / norm) < 1e-5);
  }
}

TEST_CASE("a prompt may be cut anywhere on MLX") {
  const std::vector<int> doc = ids_of("doc");
  const std::span<const int> ids = std::span(doc).first(70);
  const auto expected = copy(on_cpu().open(plain(), options_of(100))->prefill(ids));
  for (const int chunk : {1, 8, 9, 64, 70}) {
    CAPTURE(chunk);
    const auto session = on_mlx().open(plain(), options_of(100, chunk));
    CHECK(kl_divergence(expected, session->prefill(ids)) < 1e-5);
    CHECK(session->position() == 70);
    CHECK(session->cache().bytes.kv_used == 70u * 2 * 2 * 2 * 256 * 4);  // layers, sides, heads, channels, f32
  }
}

TEST_CASE("a prompt on MLX can be left between layers, and the session is as before it") {
  const std::vector<int> doc = ids_of("doc");
  const std::span<const int> start = std::span(doc).first(40), more = std::span(doc).subspan(40, 50);
  std::atomic<bool> stop = false;
  struct StopsAt final : Observer {
    explicit StopsAt(std::atomic<bool>& flag) : stop(flag) {}
    void hidden(int layer, std::span<const float>, int) override {
      last = layer;
      if (layer == 3) stop = true;
    }
    std::atomic<bool>& stop;
    int last = -1;
  } observer(stop);
  for (const char* format : {"baseline", "turboquant:mean=8:window=16"}) {
    CAPTURE(format);
    const auto session = on_mlx().open(KvFormat::parse(format), options_of(200)),
               other = on_mlx().open(KvFormat::parse(format), options_of(200));
    session->prefill(start);
    other->prefill(start);
    stop = false;
    session->observe(&observer);
    PrefillOptions options;
    options.stop = &stop;
    CHECK(session->prefill(more, options).empty());
    CHECK(observer.last == 3);
    CHECK(session->position() == 40);
    CHECK(session->logits().empty());
    session->observe(nullptr);
    stop = false;
    CHECK(copy(session->prefill(more, options)) == copy(other->prefill(more)));
    CHECK(copy(session->decode(7)) == copy(other->decode(7)));
  }
}

TEST_CASE("pieces of a prompt in one pass on MLX have the bits of each alone, and snapshots between them") {
  const std::vector<int> doc = ids_of("doc");
  const std::span<const int> ids = std::span(doc).first(90);
  const std::vector<int> ends{20, 52, 84}, kept{52};
  for (const char* format : {"baseline", "turboquant:mean=8:window=16"}) {
    CAPTURE(format);
    const auto alone = on_mlx().open(KvFormat::parse(format), options_of(200)),
               cut = on_mlx().open(KvFormat::parse(format), options_of(200));
    alone->prefill(ids.first(20));
    alone->prefill(ids.subspan(20, 32));
    alone->prefill(ids.subspan(52, 32));
    const auto expected = copy(alone->prefill(ids.subspan(84)));
    std::unique_ptr<Snapshot> snapshot;
    PrefillOptions options;
    options.pieces = {ends, kept, [&](std::unique_ptr<Snapshot> one) { snapshot = std::move(one); }};
    CHECK(copy(cut->prefill(ids, options)) == expected);
    REQUIRE(snapshot);
    CHECK(snapshot->position() == 52);
    CHECK(snapshot->bytes() > 0);
    const auto forked = on_mlx().fork(*cut, *snapshot, options_of(200));
    const std::vector<int> rest{32};
    PrefillOptions later;
    later.pieces.ends = rest;
    CHECK(copy(forked->prefill(ids.subspan(52), later)) == expected);
  }
}

TEST_CASE("a snapshot goes back, and a fork goes on by itself on MLX") {
  const std::vector<int> doc = ids_of("doc");
  const std::span<const int> start = std::span(doc).first(259), more = std::span(doc).subspan(259, 7);
  const auto session = on_mlx().open(plain(), options_of(400));
  session->prefill(start);
  const auto at = session->snapshot();
  CHECK(at->bytes() > 0);
  const auto expected = copy(session->prefill(more));
  session->restore(*at);
  CHECK(session->position() == 259);
  const auto forked = on_mlx().fork(*session, *at, options_of(400));
  CHECK(copy(forked->prefill(more)) == expected);
  session->prefill(more);
  session->decode(9);
  CHECK(copy(forked->decode(5)) != copy(session->logits()));
  session->restore(*at);
  CHECK(copy(session->prefill(more)) == expected);
}

TEST_CASE("a session saved on one engine goes on in the other, both ways") {
  const std::vector<int> doc = ids_of("doc");
  const std::span<const int> start = std::span(doc).first(90), more = std::span(doc).subspan(90, 3);
  const TemporaryDirectory directory;
  const auto goes_on = [&](const Engine& from, const Engine& to) {
    const auto session = from.open(plain(), options_of(300));
    session->prefill(start);
    const auto path = directory / "a.session";
    session->save(path);
    const auto resumed = to.restore(SavedSession::open(path), options_of(300));
    CHECK(resumed->position() == 90);
    CHECK(copy(resumed->logits()) == copy(session->logits()));
    for (const int id : more) {
      session->decode(id);
      resumed->decode(id);
    }
    CHECK(kl_divergence(session->logits(), resumed->logits()) < 1e-6);
  };
  goes_on(on_cpu(), on_mlx());
  goes_on(on_mlx(), on_cpu());
  goes_on(on_mlx(), on_mlx());
}

TEST_CASE("a session on MLX has the same bits alone and in company") {
  const std::vector<int> doc = ids_of("doc");
  const auto part = [&](int first, int count) {
    return std::span(doc).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  };
  const auto at = [&](int tokens) {
    auto session = on_mlx().open(plain(), options_of(200));
    session->prefill(part(0, tokens));
    return session;
  };
  const auto alone_decode = at(30), alone_prompt = at(20), alone_short = at(40);
  const auto decoded = copy(alone_decode->decode(7)), prompt = copy(alone_prompt->prefill(part(20, 30))),
             piece = copy(alone_short->prefill(part(40, 5)));
  const auto a = at(30), b = at(20), c = at(40);
  const int seven = 7;
  std::vector<Work> work{{a.get(), {&seven, 1}}, {b.get(), part(20, 30)}, {c.get(), part(40, 5)}};
  on_mlx().step(work);
  CHECK(copy(work[0].logits) == decoded);
  CHECK(copy(work[1].logits) == prompt);
  CHECK(copy(work[2].logits) == piece);
}

TEST_CASE("what this engine does not store is refused by name") {
  CHECK(contains(failure(ErrorKind::format, [] { on_mlx().open(KvFormat::of(Backend::trellis), options_of(10)); }),
                 "the device mlx does not store trellis 4 bit"));
  PlanRequest request{{Device::parse("mlx"), Precision::f32, {}}, options_of(10)};
  const auto plan_of = [&](const KvFormat& format) { return plan_memory(on_mlx().config(), 1000, format, request); };
  CHECK(contains(failure(ErrorKind::format, [&] { plan_of(KvFormat::usual()); }),
                 "the device mlx does not store trellis 3 bit"));
  for (const MemoryPlan::Largest& other : plan_of(plain()).others)
    CHECK(other.format.canonical().find("trellis") == std::string::npos);
  SessionOptions bf16 = options_of(10);
  bf16.state = StateType::bf16;
  CHECK(contains(failure(ErrorKind::format, [&] { on_mlx().open(plain(), bf16); }),
                 "the device mlx keeps the recurrent state in f32, and bf16 was asked for"));
  CHECK(on_mlx().device().device.canonical() == "mlx:kernels=off:wired=off");
  CHECK(on_mlx().device().precision == Precision::f32);
}
