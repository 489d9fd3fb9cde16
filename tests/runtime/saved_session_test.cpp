// A session on disk goes on as if it had never been there: every format, every option, bit for bit.
#include "tqkv/saved_session.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/file.h"
#include "codec/basis.h"
#include "codec/side_codec.h"
#include "loaders/safetensors.h"
#include "runtime/devices.h"
#include "support/checkpoint_writer.h"
#include "support/reference.h"
#include "support/sanitized.h"
#include "support/temporary_directory.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

std::vector<int> document(int count) {
  auto ids = pocket_reference().at("needle.ids").ints();
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

SessionOptions context_of(int tokens, StateType state = StateType::f32) {
  SessionOptions options;
  options.context = tokens;
  options.state = state;
  return options;
}

/// Logits of some tokens more: one alone, many at once, one alone.
std::vector<float> go_on(Session& session) {
  std::vector<float> out;
  const auto add = [&](std::span<const float> row) { out.insert(out.end(), row.begin(), row.end()); };
  add(session.decode(17));
  add(session.prefill(document(40)));
  add(session.decode(5));
  return out;
}

std::vector<float> copy_of(std::span<const float> row) {
  return {row.begin(), row.end()};
}

/// `tokens` tokens in `format`, saved, restored and saved again: nothing tells the restored session from the first one.
void check_round_trip(const Engine& engine, const std::string& format, int tokens, StateType state = StateType::f32) {
  CAPTURE(format);
  CAPTURE(tokens);
  const TemporaryDirectory folder;
  const auto session = engine.open(KvFormat::parse(format), context_of(tokens + 100, state));
  const auto last = copy_of(session->prefill(document(tokens)));
  session->save(folder / "a", {NextText::question, {3, 4}});

  const auto saved = SavedSession::open(folder / "a");
  CHECK(saved.tokens() == tokens);
  CHECK(saved.text().next == NextText::question);
  CHECK(saved.text().pending == std::vector<int>{3, 4});
  CHECK(saved.identity().format == session->cache().format);
  CHECK(saved.identity().state == state);
  CHECK(saved.identity().device == bits_of(engine.device().device));
  const auto restored = engine.restore(saved, context_of(tokens + 100));
  CHECK(restored->position() == tokens);
  CHECK(std::vector<int>(restored->ids().begin(), restored->ids().end()) == document(tokens));
  CHECK(copy_of(restored->logits()) == last);
  const CacheBytes before = session->cache().bytes, after = restored->cache().bytes;
  CHECK(after.kv_used == before.kv_used);
  CHECK(after.kv_allocated == before.kv_allocated);
  CHECK(after.state() == before.state());
  restored->save(folder / "b", {NextText::question, {3, 4}});
  CHECK(read_text(folder / "b") == read_text(folder / "a"));
  CHECK(go_on(*restored) == go_on(*session));
}

}  // namespace

TEST_CASE("a restored session goes on with the same bits, and is saved as the same bytes") {
  check_round_trip(pocket(Precision::fast), "turboquant", 300);
}

TEST_CASE("every backend and every option goes on with the same bits" * doctest::skip(test::sanitized)) {
  for (const std::string format : {"baseline",
                                   "mlx_quant",
                                   "mlx_quant:k=3:v=6:group=32",
                                   "turboquant:bits=2.5",
                                   "turboquant:k=5:v=16",
                                   "turboquant:k=16:v=2:seed=9",
                                   "rotated_quant",
                                   "trellis:bits=3.5",
                                   "turboquant_prod:bits=3",
                                   "qjl",
                                   "qjl:rows=512:projection=gaussian:v=16:window=300",
                                   "polarquant",
                                   "sketch",
                                   "turboquant:window=50:sink=3",
                                   "turboquant:window=300:sink=70",
                                   "turboquant:split=1:bits=2.5",
                                   "turboquant:split=1:k=16:v=2:window=40:sink=5",
                                   "mlx_quant:bits=3:window=64",
                                   "trellis:sink=300",
                                   "turboquant:k=5:v=3:values=trellis:mean=64:window=128",
                                   "mlx_quant:mean=300:layers=3/k=8,7/v=16"})
    check_round_trip(pocket(Precision::fast), format, 520);
}

TEST_CASE("the ends of pages, of windows and of a split's first page are no special lengths" *
          doctest::skip(test::sanitized)) {
  for (const int tokens : {1, 40, 255, 256, 257, 511, 512, 513})
    check_round_trip(pocket(Precision::fast), "turboquant:split=1:bits=3:window=40:sink=260:mean=256", tokens);
}

TEST_CASE("f32 precision, a bf16 state, one thread and other instruction sets go on with the same bits" *
          doctest::skip(test::sanitized)) {
  for (const std::string format : {"baseline", "turboquant:window=20:sink=2", "turboquant:k=16:v=3"})
    check_round_trip(pocket(Precision::f32), format, 270);
  check_round_trip(pocket(Precision::fast), "turboquant", 300, StateType::bf16);
  check_round_trip(pocket(Precision::f32), "turboquant", 300, StateType::bf16);
  check_round_trip(pocket(Precision::fast, "", 1), "turboquant", 300);
  check_round_trip(pocket(Precision::fast, "portable"), "turboquant", 300);
}

TEST_CASE("a boundary layer is stored in its own format" * doctest::skip(test::sanitized)) {
  TinyModel model;
  model.layers = 12;
  model.tokenizer = false;
  const TemporaryDirectory folder;
  const auto engine = Engine::load(Checkpoint::open(write_checkpoint(model, folder.path())));
  std::vector<int> ids;
  for (int i = 0; i < 300; ++i) ids.push_back(i * 7 % 320);
  for (const std::string format : {"turboquant:boundary=1:window=20", "trellis:boundary=1/8"}) {
    CAPTURE(format);
    const auto session = engine->open(KvFormat::parse(format), context_of(400));
    session->prefill(ids);
    session->save(folder / "s");
    const auto restored = engine->restore(SavedSession::open(folder / "s"), context_of(400));
    CHECK(restored->cache().bytes.kv_allocated == session->cache().bytes.kv_allocated);
    for (const int id : {1, 2, 3}) CHECK(copy_of(restored->decode(id)) == copy_of(session->decode(id)));
  }
}

TEST_CASE("another program finds keys and values in the file: token by token, head by head, as the formats say") {
  // What the layers give to the cache, and what is read by the page of formats alone.
  class Keys final : public Observer {
   public:
    void hidden(int, std::span<const float>, int) override {}
    void keys_values(int layer, std::span<const float> keys, std::span<const float> values, int) override {
      if (layer != 7) return;
      k.assign(keys.begin(), keys.end());
      v.assign(values.begin(), values.end());
    }
    std::vector<float> k, v;
  };
  const auto& engine = pocket(Precision::fast);
  const int heads = engine.config().num_key_value_heads, dim = engine.config().head_dim, tokens = 300;
  for (const std::string text : {"baseline", "turboquant:k=4:v=3:seed=5", "rotated_quant:bits=8", "polarquant"}) {
    CAPTURE(text);
    const TemporaryDirectory folder;
    const auto session = engine.open(KvFormat::parse(text), context_of(tokens));
    Keys seen;
    session->observe(&seen);
    session->prefill(document(tokens));
    session->save(folder / "s");
    const std::string file = read_text(folder / "s");
    const auto entries = parse_safetensors_file(std::as_bytes(std::span(file)), "file", ErrorKind::session).entries;
    for (const bool keys : {true, false}) {
      const SideFormat side = keys ? KvFormat::parse(text).k : KvFormat::parse(text).v;
      const codec::SideCodec codec = codec::side_codec(side, dim);
      const auto entry = std::find_if(entries.begin(), entries.end(), [&](const SafetensorsEntry& e) {
        return e.name == (keys ? "layers.7.k.main" : "layers.7.v.main");
      });
      REQUIRE(entry != entries.end());
      REQUIRE(entry->end - entry->begin == static_cast<std::size_t>(tokens * heads) * codec.vector_bytes());
      double worst = 0;
      std::vector<float> decoded(static_cast<std::size_t>(dim));
      for (int vector = 0; vector < tokens * heads; ++vector) {
        const std::byte* at = std::as_bytes(std::span(file)).data() + entry->begin +
                              static_cast<std::size_t>(vector) * codec.vector_bytes();
        codec::decode(codec, at, at + codec.code_bytes, decoded);
        codec::Basis::of(side, KvFormat::parse(text).seed, 7, vector % heads, dim).revert(decoded);
        double error = 0, norm = 0;
        for (int c = 0; c < dim; ++c) {
          const auto i = static_cast<std::size_t>(vector * dim + c);
          const double x = keys ? seen.k[i] : seen.v[i], y = decoded[static_cast<std::size_t>(c)];
          error += (x - y) * (x - y);
          norm += x * x;
        }
        worst = std::max(worst, error / norm);
      }
      MESSAGE(text << std::string(keys ? ", keys" : ", values") << ": largest relative error squared " << worst);
      CHECK(worst < 0.08);
    }
  }
}

TEST_CASE("a session without tokens, and one that went back to a snapshot, are saved as what they are") {
  const auto& engine = pocket(Precision::fast);
  const TemporaryDirectory folder;
  const auto session = engine.open(KvFormat::of(Backend::turboquant), context_of(200));
  session->save(folder / "empty");
  const auto empty = engine.restore(SavedSession::open(folder / "empty"), context_of(200));
  CHECK(empty->position() == 0);
  CHECK(empty->logits().empty());
  session->prefill(document(30));
  const auto snapshot = session->snapshot();
  session->prefill(document(50));
  session->restore(*snapshot);
  session->save(folder / "back");
  const auto back = engine.restore(SavedSession::open(folder / "back"), context_of(200));
  CHECK(back->position() == 30);
  CHECK(back->logits().empty());
  const auto logits = copy_of(session->prefill(document(30)));
  CHECK(copy_of(empty->prefill(document(30))) != logits);
  CHECK(copy_of(back->prefill(document(30))) == logits);
}

TEST_CASE("a restored session can go back, and further tokens fit where the context says so") {
  const auto& engine = pocket(Precision::fast);
  const TemporaryDirectory folder;
  const auto session = engine.open(KvFormat::parse("turboquant:window=20"), context_of(100));
  session->prefill(document(90));
  session->save(folder / "s");
  const auto saved = SavedSession::open(folder / "s");
  const auto restored = engine.restore(saved, context_of(95));
  const auto snapshot = restored->snapshot();
  const auto first = copy_of(restored->prefill(document(5)));
  CHECK_THROWS_AS(restored->decode(1), Error);
  restored->restore(*snapshot);
  CHECK(copy_of(restored->prefill(document(5))) == first);
  CHECK_THROWS_WITH_AS(
      engine.restore(saved, context_of(89)),
      ("[input] " + (folder / "s").string() + ": contains 90 tokens, but the context is 89: give a larger one").c_str(),
      Error);
}
