// The forward pass against what transformers computes in float32 for the same checkpoint.
#include <doctest/doctest.h>

#include <cmath>

#include "runtime/cpu/kernels.h"
#include "support/reference.h"
#include "support/sanitized.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

constexpr int vocab = 8192;

std::vector<int> ids_of(const std::string& prompt) {
  return pocket_reference().at(prompt + ".ids").ints();
}

Agreement agreement(const std::string& prompt, const Engine& engine, const KvFormat& format) {
  const auto& logits = pocket_reference().at(prompt + ".logits_last64");
  return compare(logits.values, last_logits(engine, format, ids_of(prompt), static_cast<int>(logits.shape[0])), vocab);
}

// Layers as the reference has them: [layers + 1, tokens, hidden].
class HiddenStates final : public Observer {
 public:
  void hidden(int, std::span<const float> values, int) override { layers.emplace_back(values.begin(), values.end()); }
  std::vector<std::vector<float>> layers;
};

}  // namespace

TEST_CASE("the exact path gives the logits of transformers on every golden prompt" * doctest::skip(test::sanitized)) {
  for (const std::string prompt : {"doc", "chat", "needle"}) {
    const auto result = agreement(prompt, pocket(Precision::f32), KvFormat::of(Backend::baseline));
    MESSAGE(prompt << ": mean KL " << result.mean_kl << ", maximum " << result.max_kl << ", same top "
                   << result.same_top);
    CHECK(result.mean_kl < 1e-5);
    CHECK(result.same_top > 0.98);  // the reference is rounded to f16: ties may turn
  }
}

TEST_CASE("the exact path gives the negative log likelihoods of transformers" * doctest::skip(test::sanitized)) {
  for (const std::string prompt : {"doc", "chat", "needle"}) {
    const auto ids = ids_of(prompt);
    const auto& nll = pocket_reference().at(prompt + ".nll").values;
    REQUIRE(nll.size() + 1 == ids.size());
    const auto logits =
        last_logits(pocket(Precision::f32), KvFormat::of(Backend::baseline), ids, static_cast<int>(ids.size()));
    double worst = 0;
    for (std::size_t t = 0; t < nll.size(); ++t) {
      const std::span<const float> row(logits.data() + t * vocab, vocab);
      double top = row[static_cast<std::size_t>(argmax(row))], sum = 0;
      for (const float x : row) sum += std::exp(static_cast<double>(x) - top);
      const double own = top + std::log(sum) - static_cast<double>(row[static_cast<std::size_t>(ids[t + 1])]);
      worst = std::max(worst, std::abs(own - static_cast<double>(nll[t])));
    }
    MESSAGE(prompt << ": largest difference " << worst);
    CHECK(worst < 2e-4);
  }
}

TEST_CASE("the exact path gives the hidden states of transformers layer by layer") {
  const auto& reference = pocket_reference().at("chat.hidden");
  const auto ids = ids_of("chat");
  SessionOptions options;
  options.context = static_cast<int>(ids.size());
  const auto session = pocket(Precision::f32).open(KvFormat::of(Backend::baseline), options);
  HiddenStates seen;
  session->observe(&seen);
  session->prefill(ids);
  REQUIRE(seen.layers.size() == static_cast<std::size_t>(reference.shape[0]));
  const auto size = static_cast<std::size_t>(reference.shape[1] * reference.shape[2]);
  for (std::size_t layer = 0; layer < seen.layers.size(); ++layer) {
    REQUIRE(seen.layers[layer].size() == size);
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const double expected = static_cast<double>(reference.values[layer * size + i]);
      difference += std::pow(static_cast<double>(seen.layers[layer][i]) - expected, 2);
      norm += expected * expected;
    }
    const double relative = std::sqrt(difference / norm);
    MESSAGE("layer " << layer << ": relative difference " << relative);
    CHECK(relative < 1e-5);
  }
}

TEST_CASE("greedy continuations equal those of transformers" * doctest::skip(test::sanitized)) {
  for (const std::string prompt : {"doc", "chat", "needle", "recall"}) {
    const auto expected = pocket_reference().at(prompt + ".greedy").ints();
    CAPTURE(prompt);
    CHECK(greedy(pocket(Precision::f32), KvFormat::of(Backend::baseline), ids_of(prompt),
                 static_cast<int>(expected.size())) == expected);
  }
}

TEST_CASE("a needle 1,577 tokens long is recalled under every backend from 3.5 bits on" *
          doctest::skip(test::sanitized)) {
  const auto expected = pocket_reference().at("recall.greedy").ints();
  for (const auto precision : {Precision::f32, Precision::fast})
    for (const std::string format :
         {"baseline", "mlx_quant:bits=8", "mlx_quant", "rotated_quant", "turboquant", "turboquant:bits=3.5"}) {
      CAPTURE(format);
      CAPTURE(std::string(name(precision)));
      CHECK(greedy(pocket(precision), KvFormat::parse(format), ids_of("recall"), static_cast<int>(expected.size())) ==
            expected);
    }
}

TEST_CASE("the fast path stays close to the exact path on the golden prompts, with every cache" *
          doctest::skip(test::sanitized)) {
  for (const std::string prompt : {"doc", "needle"})
    for (const std::string text : {"baseline", "mlx_quant", "turboquant", "rotated_quant"}) {
      const auto format = KvFormat::parse(text);
      const auto ids = ids_of(prompt);
      const auto exact = last_logits(pocket(Precision::f32), format, ids, 200);
      const auto result = compare(exact, last_logits(pocket(Precision::fast), format, ids, 200), vocab);
      MESSAGE(prompt << ", " << text << ": mean KL " << result.mean_kl << ", p99 " << result.p99_kl << ", same top "
                     << result.same_top);
      CHECK(result.mean_kl < 3e-3);
    }
}

TEST_CASE("token by token the fast path is closer still" * doctest::skip(tqkv::test::sanitized)) {
  const auto ids = ids_of("doc");
  const auto run = [&](Precision precision) {
    SessionOptions options;
    options.context = 400;
    const auto session = pocket(precision).open(KvFormat::of(Backend::turboquant), options);
    std::vector<float> out;
    for (const int id : ids) {
      const auto row = session->decode(id);
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  };
  const auto result = compare(run(Precision::f32), run(Precision::fast), vocab);
  MESSAGE("mean KL " << result.mean_kl << ", p99 " << result.p99_kl << ", same top " << result.same_top);
  CHECK(result.mean_kl < 1e-3);
}

TEST_CASE("every instruction set gives the same tokens" * doctest::skip(test::sanitized)) {
  const auto expected = pocket_reference().at("doc.greedy").ints();
  for (const auto isa : cpu::available_isas()) {
    CAPTURE(std::string(isa));
    CHECK(greedy(pocket(Precision::f32, std::string(isa)), KvFormat::of(Backend::baseline), ids_of("doc"), 24) ==
          std::vector<int>(expected.begin(), expected.begin() + 24));
    CHECK(greedy(pocket(Precision::fast, std::string(isa)), KvFormat::of(Backend::turboquant), ids_of("chat"), 24) ==
          greedy(pocket(Precision::fast), KvFormat::of(Backend::turboquant), ids_of("chat"), 24));
  }
}
