// Tuning: where bits go, and what is said of the result.
#include "measure/tune/tune.h"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cache/accounting.h"
#include "loaders/locate.h"
#include "measure/page/report.h"
#include "measure/tune/choice.h"
#include "support/failure.h"
#include "support/reference.h"
#include "support/sanitized.h"
#include "tqkv/model.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::measure;
using namespace tqkv::test;
using measure::choose_bits;

namespace {

/// A side whose KL falls by four with each bit.
TuneSide side(double kl_at_2_bits, bool keys = true) {
  TuneSide side{0, keys, {}};
  for (int bits = 2; bits <= 5; ++bits)
    side.points.push_back({bits, "", static_cast<std::uint64_t>(32 * bits + 2), kl_at_2_bits * std::pow(4, 2 - bits)});
  return side;
}

std::vector<int> bits_of(const std::vector<TuneSide>& sides, const std::vector<int>& chosen) {
  std::vector<int> bits;
  for (std::size_t i = 0; i < sides.size(); ++i)
    bits.push_back(sides[i].points[static_cast<std::size_t>(chosen[i])].bits);
  return bits;
}

/// The least KL of all choices that fit.
double least_kl(const std::vector<TuneSide>& sides, std::uint64_t bytes, std::vector<int> chosen = {}) {
  if (chosen.size() == sides.size())
    return measure::sum_of_bytes(sides, chosen) <= bytes ? measure::sum_of_kl(sides, chosen) : 1e300;
  double least = 1e300;
  for (int point = 0; point < static_cast<int>(sides[chosen.size()].points.size()); ++point) {
    std::vector<int> next = chosen;
    next.push_back(point);
    least = std::min(least, least_kl(sides, bytes, next));
  }
  return least;
}

const Checkpoint& checkpoint() {
  static const Checkpoint opened = Checkpoint::open(pocket_directory());
  return opened;
}

const Tokenizer& tokenizer() {
  static const Tokenizer opened = open_tokenizer(checkpoint());
  return opened;
}

Tuner pocket_tuner(TuneGoal goal, int tokens = 512) {
  EvaluationModel model;
  model.name = "pocket";
  model.config = pocket(Precision::f32).config();
  model.fingerprint = model_fingerprint(checkpoint());
  model.tokenizer = &tokenizer();
  TuneOptions options;
  options.goal = goal;
  options.tokens = tokens;
  options.command = "tqkv tune pocket";
  return Tuner(std::move(model), {"the bundled text", read_text(locate_evaluation_text())}, options);
}

}  // namespace

TEST_CASE("bits go to the side that costs most, and no budget is exceeded") {
  const std::vector<TuneSide> sides{side(1.0), side(0.01)};
  const std::uint64_t bytes = 2 * (32 * 3 + 2);
  const auto chosen = choose_bits(sides, bytes);
  REQUIRE(chosen);
  CHECK(bits_of(sides, *chosen) == std::vector<int>{4, 2});
  CHECK(measure::sum_of_bytes(sides, *chosen) == bytes);
}

TEST_CASE("a budget without an end takes all bits that help") {
  const std::vector<TuneSide> sides{side(1.0), side(0.01)};
  CHECK(bits_of(sides, *choose_bits(sides, UINT64_MAX)) == std::vector<int>{5, 5});
}

TEST_CASE("more bits that measured no better are never bought") {
  std::vector<TuneSide> sides{side(1.0)};
  sides[0].points[3].kl = sides[0].points[2].kl;
  CHECK(bits_of(sides, *choose_bits(sides, 1000)) == std::vector<int>{4});
}

TEST_CASE("a budget below the fewest bits has no choice") {
  CHECK(!choose_bits({side(1.0)}, 65));
}

TEST_CASE("the greedy choice fits its budget and is near the best there is") {
  CHECK(rc::check([] {
    std::vector<TuneSide> sides;
    const int count = *rc::gen::inRange(1, 6);
    for (int i = 0; i < count; ++i) sides.push_back(side(std::pow(10.0, *rc::gen::inRange(-3, 1)), i % 2 == 0));
    const auto bytes = static_cast<std::uint64_t>(count * *rc::gen::inRange(66, 163));
    const auto chosen = choose_bits(sides, bytes);
    RC_ASSERT(chosen.has_value());
    RC_ASSERT(measure::sum_of_bytes(sides, *chosen) <= bytes);
    RC_ASSERT(measure::sum_of_kl(sides, *chosen) <= 1.01 * least_kl(sides, bytes) + 1e-12);
  }));
}

TEST_CASE("the pocket model is tuned: within its bytes, better than the default, and what sides cost adds up" *
          doctest::skip(test::sanitized)) {
  TuneGoal goal;
  goal.bits = 4;
  Tuner tuner = pocket_tuner(goal, 768);
  int passes = 0;
  Tuner::Callbacks callbacks;
  callbacks.measured = [&](const Tuning&) { ++passes; };
  const Tuning tuning = tuner.run(pocket(Precision::f32), callbacks);
  REQUIRE(tuning.finished);
  CHECK(passes >= static_cast<int>(tuning.measurements.size()));
  const ModelConfig& config = pocket(Precision::f32).config();
  CHECK(tuning.bytes_per_token == cache::bytes_per_token(config, KvFormat::parse(tuning.chosen)));
  CHECK(tuning.bytes_per_token <= cache::bytes_per_token(config, KvFormat::parse("turboquant:k=4:v=4")));
  CHECK(tuning.sides.size() == 4);  // two attention layers
  const auto kl = [&](const std::string& format, bool held_out) {
    for (const TuneMeasurement& one : tuning.measurements)
      if (one.held_out == held_out && one.format == format) return one.kl;
    FAIL("not measured: " << format);
    return 0.0;
  };
  CHECK(tuning.compared.back() == KvFormat::usual().canonical());
  CHECK(kl(tuning.compared.front(), true) < 0.5 * kl("turboquant:k=4:v=4:scalar=corrected:seed=0:table=1", true));
  CHECK(kl(tuning.compared.front(), true) < 1.1 * kl(tuning.compared.back(), true));
  const double together = kl(tuning.chosen, false);
  CHECK(tuning.predicted_kl > 0.6 * together);
  CHECK(tuning.predicted_kl < 1.8 * together);

  // A file goes into the report, and another goal goes on from it.
  const std::string json = to_json(tuning);
  const std::vector<ReportFile> files{{"tuning.json", json}};
  CHECK(contains(make_report(files, "tqkv report tuning.json").page, "Tuned format"));
  CHECK(contains(to_table(tuning), tuning.chosen));
  CHECK(contains(to_table(tuning), " (chosen)"));
  Tuner again = pocket_tuner(goal, 768);
  again.resume("tuning.json", json, pocket(Precision::f32).device());
  int more = 0;
  callbacks.measured = [&](const Tuning&) { ++more; };
  CHECK(to_json(again.run(pocket(Precision::f32), callbacks)) == json);
  CHECK(more == 1);  // the end alone
}

TEST_CASE("a goal of KL takes the fewest bytes that reach it, by what was measured" * doctest::skip(test::sanitized)) {
  TuneGoal goal;
  goal.kl = 5e-4;
  Tuner tuner = pocket_tuner(goal);
  const Tuning tuning = tuner.run(pocket(Precision::f32));
  CHECK(tuning.goal_reached);
  CHECK(to_table(tuning).find("No format") == std::string::npos);
  const ModelConfig& config = pocket(Precision::f32).config();
  const KvFormat chosen = KvFormat::parse(tuning.chosen);
  double kl = 1;
  for (const TuneMeasurement& one : tuning.measurements) {
    if (one.held_out) continue;
    const KvFormat format = KvFormat::parse(one.format);
    if (format == chosen) kl = one.kl;
    if (format.window != chosen.window || format.mean != chosen.mean || one.kl > *goal.kl) continue;
    CAPTURE(one.format);
    CHECK(cache::bytes_per_token(config, format) >= tuning.bytes_per_token);
  }
  CHECK(kl <= *goal.kl);

  // A goal that nothing reaches says so, and a file that has all of it is done at once.
  goal.kl = 1e-9;
  const std::string json = to_json(tuning);
  Tuner far = pocket_tuner(goal);
  far.resume("tuning.json", json, pocket(Precision::f32).device());
  const Tuning missed = far.run(pocket(Precision::f32));
  CHECK(!missed.goal_reached);
  CHECK(contains(to_table(missed), "No format that was tried reaches a mean KL of 1.00e-09. The best one has"));
  const std::vector<ReportFile> files{{"tuning.json", to_json(missed)}};
  CHECK(contains(make_report(files, "tqkv report tuning.json").page, "reaches the KL that was asked for"));
  for (const TuneMeasurement& one : missed.measurements)
    if (!one.held_out && one.format == missed.chosen) kl = one.kl;
  for (const std::string& format : missed.compared)
    for (const TuneMeasurement& one : missed.measurements)
      if (!one.held_out && one.format == format) CHECK(one.kl >= kl);
  Tuner again = pocket_tuner(goal);
  again.resume("tuning.json", to_json(missed), pocket(Precision::f32).device());
  std::string notes;
  Tuner::Callbacks callbacks;
  callbacks.note = [&](std::string_view line) { notes += line; };
  CHECK(to_json(again.run(pocket(Precision::f32), callbacks)) == to_json(missed));
  CHECK(notes.empty());  // no pass was left
}

TEST_CASE("what cannot be tuned is refused") {
  const auto refusal = [](TuneGoal goal, int tokens = 512) {
    return failure(ErrorKind::usage, [&] { pocket_tuner(goal, tokens); });
  };
  TuneGoal none, both, little, negative;
  both.bits = 4;
  both.kl = 0.01;
  little.bytes_per_token = 100;
  negative.kl = -1;
  CHECK(contains(refusal(none), "one goal is needed"));
  CHECK(contains(refusal(both), "one goal is needed"));
  CHECK(contains(refusal(little), "100 bytes per token are less than 2 bits take"));
  CHECK(contains(refusal(negative), "positive number"));
  TuneGoal four;
  four.bits = 4;
  CHECK(contains(refusal(four, 100), "100 tokens are not between 512 and"));
  Tuner tuner = pocket_tuner(four);
  for (const char* wrong : {"", "[]", "{}", R"({"schema": 1, "kind": "evaluation"})"})
    failure(ErrorKind::input, [&] { tuner.resume("x.json", wrong, pocket(Precision::f32).device()); });
  nlohmann::json negative_kl = nlohmann::json::parse(to_json(tuner.tuning()));
  negative_kl["machine"]["device"] = "cpu";
  negative_kl["measurements"] = {
      {{"held_out", false}, {"format", "trellis"}, {"kl", -1}, {"same_top", 1}, {"ratio", 1}, {"seconds", 1}}};
  CHECK(contains(failure(ErrorKind::input, [&] { tuner.resume("x.json", negative_kl.dump(), {}); }), "kl"));
  nlohmann::json other = nlohmann::json::parse(to_json(tuner.tuning()));
  other["machine"]["device"] = "cpu";
  other["settings"]["tokens"] = 300;
  CHECK(contains(failure(ErrorKind::input, [&] { tuner.resume("x.json", other.dump(), {}); }),
                 "the setting tokens was 300, now it is 512"));
}
