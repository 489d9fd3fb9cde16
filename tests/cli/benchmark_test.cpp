#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "support/failure.h"
#include "support/process.h"

using namespace tqkv;
using nlohmann::json;
using test::contains;
using test::run_tqkv;

TEST_CASE("benchmark runs three backends on pocket and writes every sample") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "results" / "out.json";
  const auto result = run_tqkv({"benchmark", "pocket", "--backend", "baseline,mlx_quant,turboquant", "--prompt-tokens",
                                "32", "--generation-tokens", "4", "--trials", "2", "--output", path.string()});
  CHECK(result.exit_code == 0);
  CHECK(result.error.empty());
  CHECK(contains(result.output, "32 prompt + 4 generated tokens at depth 0, 2 trials"));
  CHECK(contains(result.output, "not a decode figure"));
  const json report = json::parse(read_text(path));
  CHECK(report["schema"] == 1);
  CHECK(report["model"]["name"] == "pocket");
  REQUIRE(report["runs"].size() == 3);
  for (const json& run : report["runs"]) {
    CAPTURE(run["backend"]);
    CHECK(run["ids_digest"] == report["runs"][0]["ids_digest"]);
    CHECK(run["as_predicted"] == true);
    CHECK(run["trials"].size() == 2);
    for (const json& trial : run["trials"]) {
      CHECK(trial["digest"] == run["warmup"]["digest"]);
      CHECK(trial["cache"]["kv_allocated"] == run["predicted"]["kv_allocated"]);
      CHECK(trial["cache"]["state"] == run["predicted"]["state"]);
    }
    CHECK(run["quality_rows"] == 4);
  }
  CHECK(report["runs"][0]["mean_kl"] == 0);
  CHECK(report["runs"][2]["mean_kl"].get<double>() > 0);
  CHECK(report["runs"][2]["mean_kl"].get<double>() < 0.5);
}

TEST_CASE("benchmark of one backend has its trials and summary at the top level too") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "one.json";
  const auto result = run_tqkv({"benchmark", "pocket", "--prompt-tokens", "8", "--generation-tokens", "2", "--trials",
                                "1", "--kv-bits", "3", "--depth", "16", "--check", "--output", path.string()});
  CHECK(result.exit_code == 0);
  const json report = json::parse(read_text(path));
  CHECK(report["backend"] == "trellis");
  CHECK(report["trials"].size() == 1);
  CHECK(report["summary"]["cache_bytes"]["median"] == report["trials"][0]["cache_bytes"]);
  CHECK(report["runs"][0]["depth"] == 16);
  CHECK(report["runs"][0]["mean_kl"].get<double>() > 0);
}

TEST_CASE("benchmark --sessions times several sessions in one step, next to what bytes allow") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "sessions.json";
  const std::vector<std::string> command{"benchmark",
                                         "pocket",
                                         "--backend",
                                         "turboquant,default",
                                         "--sessions",
                                         "4,1,4",
                                         "--prompt-tokens",
                                         "20",
                                         "--generation-tokens",
                                         "3",
                                         "--trials",
                                         "2",
                                         "--output",
                                         path.string()};
  const auto result = run_tqkv(command);
  CHECK(result.exit_code == 0);
  CHECK(contains(result.output, "20 tokens each, then 3 steps, 2 rounds"));
  CHECK(contains(result.output, "share of the gain"));
  const json report = json::parse(read_text(path));
  CHECK(report["kind"] == "sessions");
  CHECK(report["settings"]["depth"] == 20);
  REQUIRE(report["runs"].size() == 4);
  for (std::size_t format = 0; format < 2; ++format) {
    const json &one = report["runs"][2 * format], &four = report["runs"][2 * format + 1];
    CHECK(one["sessions"] == 1);
    CHECK(four["sessions"] == 4);
    CHECK(one["format"] == four["format"]);
    CHECK(one["ratio_to_one"]["median"] == 1);
    CHECK(one["bound"] == 1);
    // 16 experts, 4 chosen: weights are read once, states four times.
    CHECK(four["bound"].get<double>() > 1.2);
    CHECK(four["bound"].get<double>() < 4);
    CHECK(four["bytes_per_step"].get<double>() * four["bound"].get<double>() ==
          doctest::Approx(4 * one["bytes_per_step"].get<double>()).epsilon(1e-3));
    REQUIRE(four["tps"].size() == 2);
    CHECK(four["tps"][0].get<double>() > 0);
  }
  const auto refused = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"benchmark", "pocket", "--sessions", "1,2"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto wrong = run_tqkv(arguments);
    CHECK(wrong.exit_code == 2);
    return wrong.error;
  };
  CHECK(contains(refused({"--prompt-tokens", "4,5"}), "--prompt-tokens: --sessions needs one number, 2 were given"));
  CHECK(contains(refused({"--depth", "4"}), "--depth excludes --sessions"));
  CHECK(contains(refused({"--prompt-tokens", "1000000"}), "made for at most 32768"));
  const auto compared = run_tqkv({"compare", path.string(), path.string()});
  CHECK(compared.exit_code == 1);
  CHECK(contains(compared.error, "is of the kind 'sessions': a file of 'tqkv benchmark' was expected"));
}

TEST_CASE("benchmark and evaluate say when a text is shorter than the mean of its format") {
  const auto benchmark = run_tqkv({"benchmark", "pocket", "--backend", "trellis", "--kv-mean", "5000",
                                   "--prompt-tokens", "8", "--generation-tokens", "2", "--trials", "1"});
  CHECK(benchmark.exit_code == 0);
  CHECK(contains(benchmark.output, "trellis mean=5000: mean=5000 was not reached: all 9 keys are plain"));
  const auto evaluate = run_tqkv({"evaluate", "pocket", "--backend", "trellis", "--kv-mean", "5000", "--tokens", "64",
                                  "--no-recall", "--no-codec-level", "--no-noise-floor"});
  CHECK(evaluate.exit_code == 0);
  CHECK(contains(evaluate.output, "mean=5000 was not reached: all 63 keys are plain"));
}

TEST_CASE("an option without a value is refused as such") {
  const auto result = run_tqkv({"benchmark", "pocket", "--kv-values", ""});
  CHECK(result.exit_code == 2);
  CHECK(contains(result.error, "an option sets the key `values` to nothing"));
}

TEST_CASE("benchmark takes its ids from a text, and refuses one that is too short") {
  const test::TemporaryDirectory folder;
  const std::string text =
      folder.write("text.txt", "The compiler reads the header once and keeps what it found there.");
  const std::vector<std::string> command{"benchmark", "pocket", "--text",         text, "--generation-tokens", "2",
                                         "--trials",  "1",      "--prompt-tokens"};
  const auto with = [&](const char* tokens) {
    auto arguments = command;
    arguments.emplace_back(tokens);
    return run_tqkv(arguments);
  };
  const auto result = with("6");
  CHECK(result.exit_code == 0);
  CHECK(contains(result.output, "text " + text));
  const auto refused = with("600");
  CHECK(refused.exit_code == 1);
  CHECK(contains(refused.error, "the longest run feeds 601"));
}

TEST_CASE("benchmark refuses what it cannot do before it runs, and leaves no file") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder.path() / "out.json").string();
  const auto refused = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"benchmark", "pocket", "--output", path});
    const auto result = run_tqkv(arguments);
    CHECK(result.output.empty());
    CHECK(std::filesystem::is_empty(folder.path()));
    return result;
  };
  CHECK(refused({"--backend", "magic"}).exit_code != 0);
  CHECK(refused({"--backend", "baseline,baseline"}).exit_code == 2);
  CHECK(refused({"--prompt-tokens", "0"}).exit_code == 2);
  CHECK(refused({"--trials", "0"}).exit_code == 2);
  const auto long_run = refused({"--depth", "32768"});
  CHECK(long_run.exit_code == 2);
  CHECK(contains(long_run.error, "at most 32768"));

  const auto unwritable = run_tqkv({"benchmark", "pocket", "--output", "/proc/none/out.json"});
  CHECK(unwritable.exit_code == 1);
  CHECK(contains(unwritable.error, "[io]"));
}
