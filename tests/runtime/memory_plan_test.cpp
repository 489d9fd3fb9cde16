#include "tqkv/memory_plan.h"

#include <doctest/doctest.h>

#include <string>

#include "base/file.h"
#include "cache/accounting.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/scratch.h"
#include "support/places.h"
#include "tqkv/error.h"

using namespace tqkv;

namespace {

const std::string source = test::source_dir();

ModelConfig config_of(const std::string& file) {
  const std::string path = source + "/models/" + file;
  return ModelConfig::parse(read_text(path), path);
}

ModelConfig large() {
  return config_of("configs/qwen3.5-35b-a3b-4bit.json");
}

PlanRequest request(int context, std::uint64_t available) {
  PlanRequest request;
  request.session.context = context;
  request.device.device = Device::parse("cpu:threads=2");
  request.available = available;
  return request;
}

std::string message_of(const MemoryPlan& plan) {
  try {
    require_fit(plan);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::memory);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a memory plan is the sum of the cache, the working memory and the tables of the vocabulary") {
  const ModelConfig config = large();
  const KvFormat format = KvFormat::parse("turboquant:bits=4");
  const MemoryPlan plan = plan_memory(config, 20'000'000'000, format, request(32768, 64'000'000'000));
  CHECK(plan.kv == 32768ull * 5200);
  CHECK(plan.recurrent == 62'914'560);
  CHECK(plan.convolution == 1'474'560);
  CHECK(plan.scratch ==
        cpu::scratch_bytes(config, {Precision::fast, 2048, 1, 32768, 2, config.head_dim}, cpu::kernels()));
  CHECK(plan.snapshots == 0);
  CHECK(plan.anonymous() == plan.kv + plan.recurrent + plan.convolution + plan.scratch + plan.vocabulary);
  CHECK(plan.total() == plan.anonymous() + 20'000'000'000);
  CHECK(plan.verdict == Verdict::fits);
  CHECK(plan.largest_context == 262144);
}

TEST_CASE("a context that does not fill its last page is planned with the whole page") {
  const ModelConfig config = large();
  const auto kv = [&](int context) {
    return plan_memory(config, 0, KvFormat::of(Backend::baseline), request(context, 1ull << 40)).kv;
  };
  CHECK(kv(1) == 256ull * 20480);
  CHECK(kv(256) == kv(1));
  CHECK(kv(257) == 2 * kv(1));
}

TEST_CASE("a refused plan names the largest context that fits, and one page more does not") {
  const ModelConfig config = large();
  const std::uint64_t available = 2'500'000'000;
  for (const char* text : {"baseline", "mlx_quant", "turboquant:bits=4", "turboquant:bits=2", "rotated_quant"}) {
    CAPTURE(text);
    const KvFormat format = KvFormat::parse(text);
    const MemoryPlan plan = plan_memory(config, 0, format, request(0, available));
    CHECK(plan.context == 262144);
    if (plan.verdict != Verdict::refused) {
      CHECK(plan.largest_context == 262144);
      continue;
    }
    REQUIRE(plan.largest_context > 0);
    REQUIRE(plan.largest_context < 262144);
    CHECK(plan_memory(config, 0, format, request(plan.largest_context, available)).verdict == Verdict::fits);
    CHECK(plan_memory(config, 0, format, request(plan.largest_context + 1, available)).verdict == Verdict::refused);
  }
  const MemoryPlan plan = plan_memory(config, 0, KvFormat::of(Backend::baseline), request(0, available));
  CHECK(plan.verdict == Verdict::refused);
  const std::string message = message_of(plan);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(message.find("262144 tokens with baseline:bits=16") != std::string::npos);
  const std::string largest = std::to_string(plan.largest_context / 1000) + ",";
  CHECK(message.find("the largest context that fits is " + largest) != std::string::npos);
  CHECK(message.find("turboquant 262,144") != std::string::npos);
  CHECK(message.find("mlx_quant 262,144") != std::string::npos);
}

TEST_CASE("where not even one page fits, the message says none") {
  const MemoryPlan plan = plan_memory(large(), 0, KvFormat::of(Backend::turboquant), request(1, 1000));
  CHECK(plan.largest_context == 0);
  CHECK(message_of(plan).find("the largest context that fits is none") != std::string::npos);
}

TEST_CASE("sessions and snapshots beside a session make its largest context smaller") {
  const ModelConfig config = large();
  PlanRequest alone = request(0, 2'500'000'000);
  PlanRequest crowded = alone;
  crowded.snapshots = 1;
  crowded.other_sessions = 500'000'000;
  const KvFormat format = KvFormat::of(Backend::baseline);
  const MemoryPlan roomy = plan_memory(config, 0, format, alone), tight = plan_memory(config, 0, format, crowded);
  CHECK(tight.snapshots == tight.recurrent + tight.convolution);
  CHECK(tight.anonymous() == roomy.anonymous() + 500'000'000 + tight.snapshots);
  CHECK(tight.largest_context < roomy.largest_context);
}

TEST_CASE("a part of the memory stays free, and what other processes will take is theirs") {
  const ModelConfig config = large();
  const KvFormat format = KvFormat::of(Backend::baseline);
  PlanRequest asked = request(8192, 64'000'000'000);
  const MemoryPlan alone = plan_memory(config, 0, format, asked);
  CHECK(alone.keep_free == 256'000'000);
  CHECK(alone.promised == 0);
  CHECK(kept_free(640'000'000) == 10'000'000);

  const auto verdict = [&](std::uint64_t available, std::uint64_t promised) {
    asked.available = available;
    asked.promised = promised;
    return plan_memory(config, 0, format, asked).verdict;
  };
  const std::uint64_t needed = alone.anonymous() * 64 / 63 + 64;  // a 64th of it stays free
  CHECK(verdict(needed, 0) == Verdict::fits);
  CHECK(verdict(alone.anonymous(), 0) == Verdict::refused);
  CHECK(verdict(needed + 100'000'000, 80'000'000) == Verdict::fits);
  CHECK(verdict(needed + 100'000'000, 120'000'000) == Verdict::refused);

  asked.available = 64'000'000'000;
  asked.promised = 3'000'000'000;
  const std::string text = describe(plan_memory(config, 0, format, asked));
  CHECK(text.find("3.00 GB   of it, to other processes of tqkv") != std::string::npos);
  CHECK(text.find("kept free") != std::string::npos);
}

TEST_CASE("the guard of this machine keeps less free than a plan leaves") {
  const MemoryGuard guard = memory_guard();
  REQUIRE(guard.available);
  CHECK(guard.available() > 0);
  CHECK(guard.keep_free > 0);
  CHECK(guard.keep_free < plan_memory(large(), 0, KvFormat::of(Backend::turboquant), {}).keep_free);
}

TEST_CASE("weights that do not fit together with the cache are a warning with the bytes read for each token") {
  const ModelConfig config = large();
  std::uint64_t weights = 0;
  for (const WeightKind& kind : expected_weights(config)) weights += kind.bytes;
  const KvFormat format = KvFormat::of(Backend::turboquant);
  const auto plan_at = [&](std::uint64_t available) {
    return plan_memory(config, weights, format, request(8192, available));
  };

  const MemoryPlan roomy = plan_at(64'000'000'000);
  CHECK(roomy.verdict == Verdict::fits);
  CHECK(warning(roomy).empty());

  const MemoryPlan half = plan_at(11'000'000'000), little = plan_at(2'000'000'000);
  CHECK(half.verdict == Verdict::weights_spill);
  CHECK(half.disk_per_token > 0);
  CHECK(half.disk_per_token < little.disk_per_token);
  CHECK(warning(half).find("for each token") != std::string::npos);
  CHECK_NOTHROW(require_fit(half));

  // With next to nothing free, all that a token touches is read: 8 of 256 experts, and all else but the embedding.
  const MemoryPlan none = plan_at(roomy.anonymous() * 65 / 64 + 1'000'000);
  CHECK(none.disk_per_token == doctest::Approx(1.66e9).epsilon(0.02));
}

TEST_CASE("under f32 precision plain sides are planned in f32, the packed ones as they are") {
  const ModelConfig config = large();
  PlanRequest exact = request(1024, 1ull << 40);
  exact.device.precision = Precision::f32;
  const MemoryPlan baseline = plan_memory(config, 0, KvFormat::of(Backend::baseline), exact);
  CHECK(baseline.kv_per_token == 40960);
  CHECK(baseline.format.canonical() == "baseline:bits=32");
  CHECK(baseline.convolution == 2 * 1'474'560);
  CHECK(plan_memory(config, 0, KvFormat::of(Backend::turboquant), exact).kv_per_token == 5200);
}

TEST_CASE("contexts that the model was not made for are refused") {
  const ModelConfig config = large();
  const KvFormat format = KvFormat::of(Backend::turboquant);
  CHECK_NOTHROW(plan_memory(config, 0, format, request(262144, 1ull << 40)));
  CHECK_THROWS_AS(plan_memory(config, 0, format, request(262145, 1ull << 40)), Error);
  CHECK_THROWS_AS(plan_memory(config, 0, format, request(-1, 1ull << 40)), Error);
}

TEST_CASE("where the system does not tell what is free, nothing is refused") {
  const MemoryPlan plan = plan_memory(large(), 20'000'000'000, KvFormat::of(Backend::baseline), request(0, 0));
  CHECK(plan.verdict == Verdict::fits);
  CHECK(plan.largest_context == 262144);
  CHECK(describe(plan).find("not known") != std::string::npos);
}

TEST_CASE("the table of a plan names every kind of memory with its bytes") {
  const MemoryPlan plan =
      plan_memory(large(), 20'000'000'000, KvFormat::of(Backend::turboquant), request(32768, 24'000'000'000));
  const std::string text = describe(plan);
  for (const char* part : {"turboquant:k=4:v=4", "context 32,768 of 262,144 tokens", "20.00 GB", "170.39 MB",
                           "5,200 B per token, pages of 256 tokens", "62.91 MB", "1.47 MB", "24.00 GB", "fits"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}
