#include "measure/benchmark/benchmark.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "measure/fake_engine.h"
#include "support/places.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::measure;
using nlohmann::json;

namespace {

const std::string pocket = test::source_dir() + "/models/pocket";

std::vector<int> some_ids(int count) {
  std::vector<int> ids(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>((i * 37 + 11) % 4096);
  return ids;
}

BenchmarkOptions options_of(std::vector<const char*> formats) {
  BenchmarkOptions options;
  for (const char* format : formats) options.formats.push_back(KvFormat::parse(format));
  options.prompt_tokens = {32};
  options.generation_tokens = {4};
  options.trials = 3;
  options.model = "fake";
  return options;
}

BenchmarkReport run(const test::FakeEngine& engine, const BenchmarkOptions& options) {
  return run_benchmark(engine, some_ids(ids_needed(options)), options);
}

std::vector<std::string> events_with(const test::FakeLog& log, const std::string& word) {
  std::vector<std::string> found;
  std::copy_if(log.events.begin(), log.events.end(), std::back_inserter(found),
               [&](const std::string& event) { return event.find(word) != std::string::npos; });
  return found;
}

template <class Call>
ErrorKind kind_thrown(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind();
  }
  return ErrorKind::internal;
}

}  // namespace

TEST_CASE("the order of backends is rotated between trials, after a warm-up of each") {
  const test::FakeEngine engine(pocket);
  BenchmarkOptions options = options_of({"turboquant", "mlx_quant", "rotated_quant"});
  const BenchmarkReport report = run(engine, options);
  const std::vector<std::string> order = events_with(engine.log, "open");
  const std::vector<std::string> expected{"turboquant open",    "mlx_quant open",     "rotated_quant open",  // warm-up
                                          "turboquant open",    "mlx_quant open",     "rotated_quant open",
                                          "mlx_quant open",     "rotated_quant open", "turboquant open",
                                          "rotated_quant open", "turboquant open",    "mlx_quant open"};
  CHECK(order == expected);
  REQUIRE(report.runs.size() == 3);
  const auto places = [&](std::size_t run) {
    std::vector<int> found;
    for (const Trial& trial : report.runs[run].trials) found.push_back(trial.order);
    return found;
  };
  CHECK(places(0) == std::vector<int>{0, 2, 1});
  CHECK(places(1) == std::vector<int>{1, 0, 2});
  CHECK(places(2) == std::vector<int>{2, 1, 0});
}

TEST_CASE("without depths one session lives at a time, and with one backend nothing of another is opened") {
  const test::FakeEngine engine(pocket);
  const BenchmarkReport report = run(engine, options_of({"turboquant"}));
  CHECK(engine.log.most_alive == 1);
  CHECK(engine.log.alive == 0);
  CHECK(events_with(engine.log, "baseline").empty());
  CHECK(!report.runs.front().quality);

  const test::FakeEngine several(pocket);
  run(several, options_of({"turboquant", "mlx_quant"}));  // no baseline: nothing to compare with
  CHECK(several.log.most_alive == 1);
}

TEST_CASE("decode is teacher-forced on the same ids in every backend, the last generated id is not fed") {
  const test::FakeEngine engine(pocket);
  const BenchmarkOptions options = options_of({"baseline", "mlx_quant", "turboquant"});
  const BenchmarkReport report = run(engine, options);
  REQUIRE(engine.log.fed.size() > 12);
  for (const std::vector<int>& fed : engine.log.fed) CHECK(fed == some_ids(32 + 4 - 1));
  CHECK(report.runs[0].ids_digest == report.runs[1].ids_digest);
  for (const BenchmarkRun& one : report.runs) {
    for (const Trial& trial : one.trials) CHECK(trial.digest == one.warmup.digest);
  }
}

TEST_CASE("a depth is walked upward once by forward passes, and every trial starts from its snapshot") {
  const test::FakeEngine engine(pocket);
  BenchmarkOptions options = options_of({"baseline", "turboquant"});
  options.depths = {64, 0, 48, 64};
  options.trials = 2;
  const BenchmarkReport report = run(engine, options);
  REQUIRE(report.runs.size() == 6);
  CHECK(report.runs[0].open_sessions == 2);
  CHECK(to_table(report).find("2 sessions wait at this depth") != std::string::npos);
  CHECK(report.runs[0].lengths.depth == 0);
  CHECK(report.runs[2].lengths.depth == 48);
  CHECK(report.runs[4].lengths.depth == 64);
  CHECK(events_with(engine.log, "open") == std::vector<std::string>{"baseline open", "turboquant open"});
  CHECK(events_with(engine.log, "turboquant prefill 0+48").size() == 1);
  CHECK(events_with(engine.log, "turboquant prefill 48+16").size() == 1);
  CHECK(events_with(engine.log, "turboquant prefill 0+64").empty());
  // Warm-up, two trials and the comparison: each 32 ids from the depth on.
  CHECK(events_with(engine.log, "turboquant prefill 64+32").size() == 4);
  CHECK(events_with(engine.log, "turboquant restore 64").size() == 4);
  for (const BenchmarkRun& one : report.runs)
    CHECK(one.predicted.kv_used % static_cast<std::uint64_t>(one.lengths.depth + 32 + 3) == 0);
  for (const std::vector<int>& fed : engine.log.fed) {
    const std::vector<int> stream = some_ids(64 + 35);
    CHECK(std::equal(fed.begin(), fed.end(), stream.begin()));
  }
}

TEST_CASE("KL and same-top are measured against baseline over the G rows, and are nothing for baseline itself") {
  const test::FakeEngine engine(pocket);
  const BenchmarkReport report = run(engine, options_of({"turboquant", "baseline"}));
  REQUIRE(report.runs[0].quality);
  CHECK(report.runs[0].quality->rows == 4);
  CHECK(report.runs[0].quality->mean_kl > 0);
  CHECK(report.runs[0].quality->same_top == 1.0);
  REQUIRE(report.runs[1].quality);
  CHECK(report.runs[1].quality->mean_kl == 0);
}

TEST_CASE("--check compares a single backend with baseline, of which no run is reported") {
  const test::FakeEngine engine(pocket);
  BenchmarkOptions options = options_of({"turboquant"});
  options.check = true;
  const BenchmarkReport report = run(engine, options);
  REQUIRE(report.runs.size() == 1);
  REQUIRE(report.runs[0].quality);
  CHECK(report.runs[0].quality->mean_kl > 0);
  CHECK(engine.log.most_alive == 2);
  CHECK(events_with(engine.log, "baseline prefill").size() == 1);
}

TEST_CASE("predicted bytes stand beside the measured ones and are equal") {
  const test::FakeEngine engine(pocket);
  const BenchmarkReport report = run(engine, options_of({"baseline", "turboquant:k=4:v=3"}));
  for (const BenchmarkRun& one : report.runs) {
    CHECK(one.predicted.kv_allocated > one.predicted.kv_used);
    for (const Trial& trial : one.trials) {
      CHECK(trial.cache.kv_used == one.predicted.kv_used);
      CHECK(trial.cache.kv_allocated == one.predicted.kv_allocated);
      CHECK(trial.cache.state() == one.predicted.state());
    }
  }
  CHECK(to_table(report).find("predicted") == std::string::npos);
  CHECK(json::parse(to_json(report))["runs"][1]["as_predicted"] == true);

  engine.log.more_bytes = 1;  // a cache that is not as it should be: what was measured is told, not what was predicted
  const BenchmarkReport wrong = run(engine, options_of({"baseline", "turboquant:k=4:v=3"}));
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(wrong.runs[i].predicted.kv_allocated == report.runs[i].predicted.kv_allocated);
    for (const Trial& trial : wrong.runs[i].trials)
      CHECK(trial.cache.kv_allocated == wrong.runs[i].predicted.kv_allocated + 1);
  }
  CHECK(to_table(wrong).find("of cache were predicted") != std::string::npos);
  CHECK(json::parse(to_json(wrong))["runs"][1]["as_predicted"] == false);
}

TEST_CASE("every prompt length runs with every generation length at every depth") {
  const test::FakeEngine engine(pocket);
  BenchmarkOptions options = options_of({"turboquant"});
  options.prompt_tokens = {16, 8};
  options.generation_tokens = {1, 3};
  options.depths = {0, 5};
  options.trials = 1;
  CHECK(ids_needed(options) == 5 + 16 + 3 - 1);
  const BenchmarkReport report = run(engine, options);
  CHECK(report.runs.size() == 8);
  for (const BenchmarkRun& one : report.runs) {
    CHECK(one.trials[0].generation_tps.has_value() == (one.lengths.generation_tokens > 1));
    CHECK(one.trials[0].generation_tps_mlx.has_value() == (one.lengths.generation_tokens > 1));
  }
}

TEST_CASE("the JSON has the known names, every sample, and the top level of a single run") {
  const test::FakeEngine engine(pocket);
  const json several = json::parse(to_json(run(engine, options_of({"baseline", "turboquant"}))));
  CHECK(several["schema"] == 1);
  CHECK(several["kind"] == "benchmark");
  CHECK(several["model"]["name"] == "fake");
  CHECK(several["model"]["fingerprint"].get<std::string>().size() == 32);
  CHECK(several["machine"]["device"] == "cpu:isa=portable:threads=1");
  CHECK(several["machine"]["memory"].get<std::uint64_t>() > 0);
  CHECK(several["settings"]["precision"] == "fast");
  CHECK(!several.contains("trials"));
  REQUIRE(several["runs"].size() == 2);
  const json& turboquant = several["runs"][1];
  CHECK(turboquant["backend"] == "turboquant");
  CHECK(turboquant["format"] == KvFormat::of(Backend::turboquant).canonical());
  CHECK(turboquant["layers"].size() == 2);
  CHECK(turboquant["layers"][1]["layer"] == 7);
  CHECK(turboquant["decode_figure"] == false);
  CHECK(turboquant["trials"].size() == 3);
  CHECK(turboquant["as_predicted"] == true);
  CHECK(turboquant["mean_kl"].get<double>() > 0);
  CHECK(turboquant["ratio_to_baseline"]["paired"] == true);
  CHECK(several["runs"][0]["ratio_to_baseline"]["prompt_tps"]["median"] == 1.0);
  for (const json& trial : turboquant["trials"]) {
    const double wall = trial["gen_wall_s"], prompt = trial["prompt_s"], decode = trial["decode_s"];
    CHECK(wall == doctest::Approx(prompt + decode));
    CHECK(trial["encode_s"].get<double>() > 0);
    CHECK(trial["encode_s"].get<double>() < prompt);
    CHECK(trial["prompt_tps"].get<double>() == doctest::Approx(32 / prompt));
    CHECK(trial["generation_tps"].get<double>() == doctest::Approx(3 / decode));
    CHECK(trial["generation_tps_mlx"].get<double>() == doctest::Approx(4 / decode));
    const std::uint64_t cache = trial["cache_bytes"], used = trial["cache_bytes_used"], state = trial["cache"]["state"];
    CHECK(cache == trial["cache"]["kv_allocated"].get<std::uint64_t>() + state);
    CHECK(used == trial["cache"]["kv_used"].get<std::uint64_t>() + state);
    const double peak = trial["peak_memory_gb"], weights = trial["weights_gb"], anonymous = trial["peak_anonymous_gb"];
    CHECK(peak == doctest::Approx(weights + anonymous));
    CHECK(anonymous > 0);
  }
  for (const char* key : {"prompt_tps", "generation_tps", "gen_wall_s", "peak_memory_gb", "cache_bytes"}) {
    CAPTURE(key);
    const json& spread = turboquant["summary"][key];
    CHECK(spread["min"].get<double>() <= spread["median"].get<double>());
    CHECK(spread["median"].get<double>() <= spread["max"].get<double>());
  }

  BenchmarkOptions single = options_of({"turboquant"});
  single.generation_tokens = {1};
  const json alone = json::parse(to_json(run(engine, single)));
  CHECK(alone["backend"] == "turboquant");
  CHECK(alone["trials"] == alone["runs"][0]["trials"]);
  CHECK(alone["summary"] == alone["runs"][0]["summary"]);
  CHECK(alone["trials"][0]["generation_tps"].is_null());
  CHECK(alone["summary"]["generation_tps"].is_null());
  CHECK(alone["runs"][0]["mean_kl"].is_null());
  CHECK(alone["runs"][0]["ratio_to_baseline"].is_null());
  CHECK(alone["runs"][0]["warmup"].contains("prompt_tps"));
}

TEST_CASE("the table has a line a backend, the ratio to baseline, and says when decode is no figure") {
  const test::FakeEngine engine(pocket);
  BenchmarkOptions options = options_of({"baseline", "turboquant:bits=4", "turboquant:bits=3"});
  const std::string text = to_table(run(engine, options));
  CHECK(text.find("32 prompt + 4 generated tokens at depth 0, 3 trials: median (min - max)") != std::string::npos);
  CHECK(text.find("x baseline") != std::string::npos);
  CHECK(text.find("turboquant 4 ") != std::string::npos);
  CHECK(text.find("turboquant 3 ") != std::string::npos);
  CHECK(text.find("not a decode figure") != std::string::npos);
  CHECK(text.find("baseline:bits=16: K and V bf16 in layers 3,7") != std::string::npos);
  options.generation_tokens = {128};
  CHECK(to_table(run(engine, options)).find("not a decode figure") == std::string::npos);
}

TEST_CASE("options that make no sense are refused before anything is opened") {
  const test::FakeEngine engine(pocket);
  const auto refused = [&](BenchmarkOptions options) {
    return kind_thrown([&] { run_benchmark(engine, some_ids(200'000), options); });
  };
  BenchmarkOptions twice = options_of({"baseline", "baseline"}), none = options_of({}),
                   no_trials = options_of({"baseline"}), no_prompt = no_trials, deep = no_trials, narrow = no_trials;
  no_trials.trials = 0;
  no_prompt.prompt_tokens = {0};
  deep.depths = {32768};
  narrow.context = 35;
  CHECK(refused(twice) == ErrorKind::usage);
  CHECK(refused(none) == ErrorKind::usage);
  CHECK(refused(no_trials) == ErrorKind::usage);
  CHECK(refused(no_prompt) == ErrorKind::usage);
  CHECK(refused(deep) == ErrorKind::usage);
  CHECK(refused(narrow) == ErrorKind::usage);
  CHECK(kind_thrown([&] { run_benchmark(engine, some_ids(34), options_of({"baseline"})); }) == ErrorKind::input);
  CHECK(engine.log.events.empty());
}

TEST_CASE("the plan of a benchmark counts the sessions that are open together") {
  const test::FakeEngine engine(pocket);
  const DeviceOptions device;
  const auto beside = [&](const BenchmarkOptions& options) {
    std::vector<std::uint64_t> bytes;
    for (const MemoryPlan& plan : plan_benchmark(engine.config(), 0, device, options))
      bytes.push_back(plan.other_sessions);
    return bytes;
  };
  CHECK(beside(options_of({"turboquant"})) == std::vector<std::uint64_t>{0});
  CHECK(beside(options_of({"turboquant", "mlx_quant"})) == std::vector<std::uint64_t>{0, 0});
  const auto with_baseline = beside(options_of({"baseline", "turboquant"}));
  CHECK(with_baseline[0] == 0);
  CHECK(with_baseline[1] > 0);
  BenchmarkOptions deep = options_of({"turboquant", "mlx_quant"});
  deep.depths = {1024};
  const auto plans = plan_benchmark(engine.config(), 0, device, deep);
  CHECK(plans[0].other_sessions > 0);
  CHECK(plans[0].snapshots > 0);
  CHECK(plans[0].context == 1024 + 32 + 4);
  deep.depths = {32768};
  CHECK(kind_thrown([&] { plan_benchmark(engine.config(), 0, device, deep); }) == ErrorKind::usage);
}
