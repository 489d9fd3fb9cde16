#include "tqkv/sampling.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "tqkv/error.h"

namespace {

using namespace tqkv;

Sampling at_temperature(float temperature) {
  Sampling sampling;
  sampling.temperature = temperature;
  return sampling;
}

/// How often each id is drawn at positions 0..draws-1, with a fresh memory each time.
std::vector<double> shares(const Sampling& sampling, const std::vector<float>& logits, int draws,
                           const std::vector<bool>& allowed = {}) {
  std::vector<double> counts(logits.size());
  Sampler sampler(sampling, allowed);
  for (int i = 0; i < draws; ++i)
    counts[static_cast<std::size_t>(sampler.next(logits, static_cast<std::uint64_t>(i)))] += 1.0 / draws;
  return counts;
}

std::set<int> drawn(const Sampling& sampling, const std::vector<float>& logits, int draws = 4000) {
  std::set<int> ids;
  const std::vector<double> found = shares(sampling, logits, draws);
  for (std::size_t i = 0; i < found.size(); ++i)
    if (found[i] > 0.0) ids.insert(static_cast<int>(i));
  return ids;
}

std::vector<float> log_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::string refusal(const Sampling& sampling) {
  try {
    check(sampling);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return error.what();
  }
  return {};
}

TEST_CASE("uniform is SplitMix64 addressed by position") {
  // The first outputs of SplitMix64 from state 0 and from 1234567, as published with the generator's reference code.
  CHECK(uniform(0, 0) == static_cast<double>(0xe220a8397b1dcdafULL >> 11) * 0x1p-53);
  CHECK(uniform(0, 1) == static_cast<double>(0x6e789e6aa1b965f4ULL >> 11) * 0x1p-53);
  CHECK(uniform(1234567, 0) == static_cast<double>(6457827717110365317ULL >> 11) * 0x1p-53);
  CHECK(uniform(1234567, 4) == static_cast<double>(16408922859458223821ULL >> 11) * 0x1p-53);
}

TEST_CASE("uniform fills the unit interval evenly for every seed") {
  for (const std::uint64_t seed : {0ULL, 1ULL, 0xffffffffffffffffULL}) {
    double mean = 0.0, square = 0.0;
    constexpr int count = 20000;
    for (std::uint64_t i = 0; i < count; ++i) {
      const double u = uniform(seed, i);
      REQUIRE(u >= 0.0);
      REQUIRE(u < 1.0);
      mean += u / count;
      square += u * u / count;
    }
    CHECK(mean == doctest::Approx(0.5).epsilon(0.02));
    CHECK(square == doctest::Approx(1.0 / 3.0).epsilon(0.02));
  }
}

TEST_CASE("greedy takes the largest logit, the lowest id of equal ones") {
  Sampling sampling;
  sampling.greedy = true;
  Sampler sampler(sampling);
  CHECK(sampler.next(std::vector<float>{0.0f, 3.0f, 3.0f, -1.0f}, 0) == 1);
  CHECK(Sampler(at_temperature(0.0f)).next(std::vector<float>{-5.0f, -4.0f}, 9) == 1);
}

TEST_CASE("draws follow the softmax of the logits at a temperature") {
  const std::vector<double> p{0.5, 0.3, 0.15, 0.05};
  const std::vector<double> found = shares(at_temperature(1.0f), log_of(p), 40000);
  for (std::size_t i = 0; i < p.size(); ++i) CHECK(std::fabs(found[i] - p[i]) < 0.01);

  // At temperature 2 a probability becomes its square root, normalised.
  double sum = 0.0;
  for (const double value : p) sum += std::sqrt(value);
  const std::vector<double> flat = shares(at_temperature(2.0f), log_of(p), 40000);
  for (std::size_t i = 0; i < p.size(); ++i) CHECK(std::fabs(flat[i] - std::sqrt(p[i]) / sum) < 0.01);
}

TEST_CASE("the same seed and position draw the same id and another seed another sequence") {
  const std::vector<float> logits(1000, 0.0f);
  Sampling one = at_temperature(1.0f), other = one;
  one.seed = 7;
  other.seed = 8;
  std::vector<int> first, again, different;
  for (std::uint64_t position = 0; position < 50; ++position) {
    first.push_back(Sampler(one).next(logits, position));
    again.push_back(Sampler(one).next(logits, position));
    different.push_back(Sampler(other).next(logits, position));
  }
  CHECK(first == again);
  CHECK(first != different);
  CHECK(std::set<int>(first.begin(), first.end()).size() > 40);
}

TEST_CASE("a draw lands on the id whose share of the ascending ids holds the random number") {
  const std::vector<double> p{0.1, 0.2, 0.3, 0.4};
  Sampling sampling = at_temperature(1.0f);
  sampling.seed = 99;
  for (std::uint64_t position = 0; position < 500; ++position) {
    const double u = uniform(99, position);
    const int expected = u < 0.1 ? 0 : u < 0.3 ? 1 : u < 0.6 ? 2 : 3;
    CHECK(Sampler(sampling).next(log_of(p), position) == expected);
  }
}

TEST_CASE("top_k keeps exactly k ids, the lowest of equal logits") {
  Sampling sampling = at_temperature(1.0f);
  sampling.top_k = 3;
  CHECK(drawn(sampling, {1.0f, 0.5f, 0.5f, 0.5f, 0.5f}) == std::set<int>{0, 1, 2});
  CHECK(drawn(sampling, std::vector<float>(300, 0.0f)) == std::set<int>{0, 1, 2});
  sampling.top_k = 1;
  CHECK(drawn(sampling, {0.1f, 0.3f, 0.2f}) == std::set<int>{1});
  sampling.top_k = 5000;
  CHECK(drawn(sampling, {0.1f, 0.3f, 0.2f}) == std::set<int>{0, 1, 2});
}

TEST_CASE("top_p keeps the fewest likely ids that hold the share, at least one") {
  // Powers of two so that the sums are exact.
  const std::vector<float> logits = log_of({0.125, 0.5, 0.25, 0.125});
  Sampling sampling = at_temperature(1.0f);
  sampling.top_p = 0.74f;
  CHECK(drawn(sampling, logits) == std::set<int>{1, 2});
  sampling.top_p = 0.76f;
  CHECK(drawn(sampling, logits) == std::set<int>{0, 1, 2});
  sampling.top_p = 0.49f;
  CHECK(drawn(sampling, logits) == std::set<int>{1});
  sampling.top_p = 1e-6f;
  CHECK(drawn(sampling, logits) == std::set<int>{1});
  sampling.top_p = 1.0f;
  CHECK(drawn(sampling, logits) == std::set<int>{0, 1, 2, 3});
}

TEST_CASE("top_p that equals a sum exactly stops there") {
  // Equal logits have weights of exactly 1.
  Sampling sampling = at_temperature(1.0f);
  sampling.top_p = 0.5f;
  CHECK(drawn(sampling, std::vector<float>(8, 0.0f)) == std::set<int>{0, 1, 2, 3});
}

TEST_CASE("top_p over a flat vocabulary sorts beyond its first piece") {
  Sampling sampling = at_temperature(1.0f);
  sampling.top_p = 0.5f;
  const std::set<int> ids = drawn(sampling, std::vector<float>(1000, 2.0f), 20000);
  CHECK(*ids.begin() == 0);
  CHECK(*ids.rbegin() == 499);
  CHECK(ids.size() == 500);
}

TEST_CASE("top_p counts the share after temperature and top_k") {
  // Of the two kept by top_k the first holds 0.8.
  Sampling sampling = at_temperature(1.0f);
  sampling.top_k = 2;
  sampling.top_p = 0.75f;
  CHECK(drawn(sampling, log_of({0.4, 0.1, 0.09, 0.09, 0.09, 0.09, 0.07, 0.07})) == std::set<int>{0});
  sampling.temperature = 4.0f;  // which flattens it to less
  CHECK(drawn(sampling, log_of({0.4, 0.1, 0.09, 0.09, 0.09, 0.09, 0.07, 0.07})) == std::set<int>{0, 1});
}

TEST_CASE("min_p keeps ids next to the most likely one, after temperature") {
  const std::vector<float> logits = log_of({0.6, 0.3, 0.1});
  Sampling sampling = at_temperature(1.0f);
  sampling.min_p = 0.4f;
  CHECK(drawn(sampling, logits) == std::set<int>{0, 1});
  sampling.min_p = 0.6f;
  CHECK(drawn(sampling, logits) == std::set<int>{0});
  sampling.temperature = 2.0f;  // 0.3 / 0.6 becomes 0.707
  CHECK(drawn(sampling, logits) == std::set<int>{0, 1});
}

TEST_CASE("the repetition penalty divides positive and multiplies negative logits of prompt and answer") {
  Sampling sampling;
  sampling.greedy = true;
  sampling.repetition_penalty = 2.0f;
  Sampler sampler(sampling);
  const std::vector<int> prompt{0, 3};
  sampler.prompt(prompt);
  CHECK(sampler.next(std::vector<float>{4.0f, 3.0f, 2.5f, -1.0f}, 0) == 1);     // 0: 4 / 2
  CHECK(sampler.next(std::vector<float>{4.0f, 3.0f, 2.5f, -1.0f}, 1) == 2);     // 1 was generated: 3 / 2
  CHECK(sampler.next(std::vector<float>{-3.0f, -9.0f, -9.0f, -1.0f}, 2) == 3);  // 3: -1 * 2, 0: -3 * 2
}

TEST_CASE("the presence penalty is taken off ids of the answer once and not off the prompt") {
  Sampling sampling;
  sampling.greedy = true;
  sampling.presence_penalty = 1.5f;
  Sampler sampler(sampling);
  const std::vector<int> prompt{0};
  sampler.prompt(prompt);
  const std::vector<float> logits{4.0f, 3.0f, 1.0f};
  CHECK(sampler.next(logits, 0) == 0);
  CHECK(sampler.next(logits, 1) == 1);  // 0 has 2.5
  CHECK(sampler.next(logits, 2) == 0);  // 1 has 1.5, 0 still 2.5
  CHECK(sampler.next(logits, 3) == 0);
}

TEST_CASE("ids that are not allowed are never chosen") {
  const std::vector<bool> allowed{true, false, true, false};
  Sampling greedy;
  greedy.greedy = true;
  CHECK(Sampler(greedy, allowed).next(std::vector<float>{1.0f, 9.0f, 2.0f, 8.0f}, 0) == 2);
  const std::vector<double> found = shares(at_temperature(1.0f), {1.0f, 9.0f, 1.0f, 8.0f}, 2000, allowed);
  CHECK(found[1] == 0.0);
  CHECK(found[3] == 0.0);
  CHECK(std::fabs(found[0] - 0.5) < 0.05);
}

TEST_CASE("logits that are no numbers are left out, and none left is an error") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  Sampling greedy;
  greedy.greedy = true;
  CHECK(Sampler(greedy).next(std::vector<float>{nan, -infinity, 1.0f, nan}, 0) == 2);
  CHECK(Sampler(at_temperature(1.0f)).next(std::vector<float>{nan, -infinity, 1.0f, nan}, 0) == 2);
  CHECK_THROWS_AS(Sampler(greedy).next(std::vector<float>{nan, -infinity}, 0), Error);
  CHECK_THROWS_AS(Sampler(at_temperature(1.0f)).next(std::vector<float>{nan, nan}, 0), Error);
}

TEST_CASE("a very small temperature draws the largest logit") {
  Sampling sampling = at_temperature(1e-38f);
  CHECK(drawn(sampling, {1.0f, 1.0001f, 0.0f}, 200) == std::set<int>{1});
}

TEST_CASE("values out of range are refused by name") {
  CHECK(refusal(Sampling{}).empty());
  Sampling bad;
  bad.temperature = -0.5f;
  CHECK(refusal(bad).find("temperature is -0.5") != std::string::npos);
  bad.temperature = std::numeric_limits<float>::quiet_NaN();
  CHECK(refusal(bad).find("temperature") != std::string::npos);
  bad = {};
  bad.top_p = 0.0f;
  CHECK(refusal(bad).find("top_p is 0") != std::string::npos);
  bad.top_p = 1.5f;
  CHECK(refusal(bad).find("top_p is 1.5") != std::string::npos);
  bad = {};
  bad.top_k = -1;
  CHECK(refusal(bad).find("top_k is -1") != std::string::npos);
  bad = {};
  bad.min_p = 1.1f;
  CHECK(refusal(bad).find("min_p is 1.1") != std::string::npos);
  bad = {};
  bad.repetition_penalty = 0.0f;
  CHECK(refusal(bad).find("repetition penalty is 0") != std::string::npos);
  bad = {};
  bad.presence_penalty = 1000.0f;
  CHECK(refusal(bad).find("presence penalty is 1000") != std::string::npos);
}

TEST_CASE("generation_config.json gives the sampling and the stop ids") {
  const GenerationDefaults qwen = GenerationDefaults::parse(
      R"({"do_sample": true, "eos_token_id": [248046, 248044], "temperature": 0.6, "top_k": 20, "top_p": 0.95})",
      "test");
  CHECK_FALSE(qwen.sampling.is_greedy());
  CHECK(qwen.sampling.temperature == 0.6f);
  CHECK(qwen.sampling.top_k == 20);
  CHECK(qwen.sampling.top_p == 0.95f);
  CHECK(qwen.stop_ids == std::vector<int>{248046, 248044});

  const GenerationDefaults bare = GenerationDefaults::parse(R"({"eos_token_id": 5, "temperature": null})", "test");
  CHECK(bare.sampling.is_greedy());
  CHECK(bare.stop_ids == std::vector<int>{5});
}

TEST_CASE("generation_config.json in other programs' habits turns things off") {
  for (const char* text :
       {R"({"top_k": -1})", R"({"top_k": 0})", R"({"top_p": 0})", R"({"top_p": 1.0})", R"({"top_p": 0.0})",
        R"({"min_p": 0})", R"({"repetition_penalty": 0})", R"({"repetition_penalty": 1.0})", R"({"top_k": null})",
        R"({"presence_penalty": 0, "frequency_penalty": 0.0})", R"({"temperature": null, "do_sample": null})"}) {
    CAPTURE(text);
    const GenerationDefaults read = GenerationDefaults::parse(text, "test");
    CHECK(read.faults.empty());
    CHECK(read.sampling.top_k == 0);
    CHECK(read.sampling.top_p == 1.0f);
    CHECK(read.sampling.min_p == 0.0f);
    CHECK(read.sampling.repetition_penalty == 1.0f);
    CHECK_NOTHROW(check(read.sampling));
  }
  CHECK(GenerationDefaults::parse(R"({"top_k": 20.0})", "test").sampling.top_k == 20);
  CHECK(GenerationDefaults::parse(R"({"do_sample": true, "temperature": 0})", "test").sampling.is_greedy());
}

TEST_CASE("an option replaces a value of generation_config.json that cannot be used") {
  const GenerationDefaults bad = GenerationDefaults::parse(R"({"top_p": 7, "temperature": "hot"})", "test");
  const std::vector<std::string_view> one = {"top_p"}, both = {"top_p", "temperature"};
  CHECK_THROWS_AS(require_sound(bad), Error);
  CHECK_THROWS_AS(require_sound(bad, one), Error);
  CHECK_NOTHROW(require_sound(bad, both));
}

TEST_CASE("a frequency penalty grows with each time that a token was generated") {
  Sampling sampling;
  sampling.greedy = true;
  sampling.frequency_penalty = 1.0f;
  Sampler sampler(sampling);
  sampler.prompt(std::vector<int>{0, 0, 0, 0});  // what the prompt holds does not count
  const std::vector<float> logits = {2.5f, 0.2f};
  std::vector<int> chosen;
  for (std::uint64_t i = 0; i < 5; ++i) chosen.push_back(sampler.next(logits, i));
  CHECK(chosen == std::vector<int>{0, 0, 0, 1, 0});
}

TEST_CASE("a broken generation_config.json is refused with its name") {
  for (const char* text :
       {"{", "[]", R"({"do_sample": 1})", R"({"temperature": "hot"})", R"({"temperature": -1})", R"({"top_k": 2.5})",
        R"({"top_k": -3})", R"({"eos_token_id": ["a"]})", R"({"eos_token_id": 4294967296})", R"({"top_p": 7})"}) {
    CAPTURE(text);
    try {
      require_sound(GenerationDefaults::parse(text, "dir/generation_config.json"));
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::config);
      CHECK(std::string(error.what()).find("dir/generation_config.json") != std::string::npos);
      CHECK(std::string(error.what()).find("[usage]") == std::string::npos);
    }
  }
}

TEST_CASE("a bias is added to logits before penalties, and is checked") {
  Sampling sampling = at_temperature(1.0f);
  sampling.logit_bias = {{1, -100.0f}, {2, std::log(3.0f)}, {99, 5.0f}};
  const std::vector<double> found = shares(sampling, log_of({0.25, 0.25, 0.25, 0.25}), 20000);
  CHECK(found[0] == doctest::Approx(0.2).epsilon(0.05));
  CHECK(found[1] == 0.0);
  CHECK(found[2] == doctest::Approx(0.6).epsilon(0.05));
  sampling.greedy = true;
  sampling.logit_bias = {{0, 2.0f}};
  sampling.repetition_penalty = 4.0f;
  Sampler sampler(sampling);
  const std::vector<float> logits{1.0f, 1.0f};
  CHECK(sampler.next(logits, 0) == 0);  // 3 to 1
  CHECK(sampler.next(logits, 1) == 1);  // 3 / 4 to 1
  for (const auto& [id, bias] : {std::pair{-1, 1.0f}, {1, 101.0f}, {1, -100.5f}, {1, std::nanf("")}}) {
    Sampling wrong;
    wrong.logit_bias = {{id, bias}};
    CHECK_FALSE(refusal(wrong).empty());
  }
  Sampling beyond;
  beyond.logit_bias = {{2, 1.0f}};
  CHECK_THROWS_AS(Sampler(beyond, {true, true}), Error);
}

TEST_CASE("an id that may not stand is drawn again from those that may, with the same random number") {
  const Sampling sampling = at_temperature(1.0f);
  const std::vector<float> logits = log_of({0.4, 0.3, 0.2, 0.1});
  const std::vector<bool> odd{false, true, false, true};
  Sampler free(sampling), masked(sampling, odd), held(sampling);
  int asked = 0;
  held.hold([&](int id, std::size_t vocab) {
    CHECK(vocab == 4);
    ++asked;
    return odd[static_cast<std::size_t>(id)] ? nullptr : &odd;
  });
  for (std::uint64_t position = 0; position < 200; ++position) {
    const int first = free.next(logits, position), second = masked.next(logits, position);
    CHECK(held.next(logits, position) == (first % 2 == 1 ? first : second));
  }
  CHECK(asked == 200);
}

TEST_CASE("a sampler is plain where logits and position alone say what is drawn") {
  CHECK(Sampler(Sampling{}).plain());
  CHECK(Sampler({.temperature = 0.5f, .top_p = 0.5f}).plain());
  for (const Sampling& sampling : {Sampling{.repetition_penalty = 1.1f}, Sampling{.presence_penalty = 1.0f},
                                   Sampling{.frequency_penalty = 1.0f}, Sampling{.logit_bias = {{1, 1.0f}}}})
    CHECK_FALSE(Sampler(sampling).plain());
  Sampler held{Sampling{}};
  held.hold([](int, std::size_t) -> const std::vector<bool>* { return nullptr; });
  CHECK_FALSE(held.plain());
}

}  // namespace
