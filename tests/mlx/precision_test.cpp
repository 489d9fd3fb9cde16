// The engine in bfloat16, as it is on a GPU. MLX's processor rounds more than a GPU does, so this says that every step
// takes the types that it gets, and no more.
#include <doctest/doctest.h>

#include <vector>

#include "mlx/support.h"
#include "runtime/mlx/engine.h"
#include "support/temporary_directory.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

const Engine& in_bfloat16() {
  static const tqkv::mlx::MlxEngine engine(Checkpoint::open(pocket_directory()),
                                           DeviceOptions{Device::parse("mlx"), Precision::fast, {}},
                                           tqkv::mlx::Paths({}, "a test"), Precision::fast);
  return engine;
}

}  // namespace

TEST_CASE("in bfloat16 the engine answers nearly as in float32, with caches and states of its precision") {
  const std::vector<int> doc = ids_of("doc");
  for (const char* text : {"baseline", "turboquant:window=4:mean=4"}) {
    CAPTURE(text);
    const KvFormat format = KvFormat::parse(text);
    const auto run = [&](const Engine& engine) {
      const auto session = engine.open(format, options_of(40));
      std::vector<float> logits = copy(session->prefill(std::span(doc).first(12)));
      for (const int id : std::span(doc).subspan(12, 2)) {
        const auto more = session->decode(id);
        logits.insert(logits.end(), more.begin(), more.end());
      }
      return std::pair(logits, session->cache().bytes);
    };
    const auto [exact, exact_bytes] = run(on_mlx());
    const auto [fast, fast_bytes] = run(in_bfloat16());
    const Agreement result = compare(exact, fast, 8192);
    MESSAGE("mean KL " << result.mean_kl);
    CHECK(result.mean_kl < 0.1);
    CHECK(fast_bytes.convolution * 2 == exact_bytes.convolution);
    CHECK(fast_bytes.recurrent == exact_bytes.recurrent);  // always float32
    CHECK(fast_bytes.kv_allocated * (format.backend == Backend::baseline ? 2 : 1) == exact_bytes.kv_allocated);
  }
}

TEST_CASE("a session in bfloat16 goes on in the engine for the processor, and the other way round") {
  const std::vector<int> doc = ids_of("doc");
  const TemporaryDirectory folder;
  const KvFormat format = KvFormat::parse("turboquant:window=4");
  const Engine& cpu = pocket(Precision::fast);
  for (const bool from_mlx : {true, false}) {
    CAPTURE(from_mlx);
    const Engine &from = from_mlx ? in_bfloat16() : cpu, &to = from_mlx ? cpu : in_bfloat16();
    const auto session = from.open(format, options_of(40));
    session->prefill(std::span(doc).first(12));
    session->save(folder / "a.session");
    const auto resumed = to.restore(SavedSession::open(folder / "a.session"), options_of(40));
    CHECK(resumed->position() == 12);
    CHECK(kl_divergence(session->decode(doc[12]), resumed->decode(doc[12])) < 0.1);
  }
}
