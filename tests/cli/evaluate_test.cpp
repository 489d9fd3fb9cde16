#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "support/failure.h"
#include "support/process.h"
#include "support/sanitized.h"

using namespace tqkv;
using nlohmann::json;
using test::contains;
using test::run_tqkv;

namespace {

std::vector<std::string> small(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"evaluate",    "pocket",  "--tokens",        "120",       "--lengths",
                                        "256",         "--tasks", "needle,pairs",    "--answers", "6",
                                        "--questions", "2",       "--no-noise-floor"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

}  // namespace

TEST_CASE("evaluate writes the agreement and recall of every backend, and goes on with its file" *
          doctest::skip(tqkv::test::sanitized)) {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "results" / "q.json";
  const auto result =
      run_tqkv(small({"--backend", "baseline,turboquant,turboquant:bits=2", "--output", path.string()}));
  CHECK(result.exit_code == 0);
  CHECK(contains(result.error, "reference logits: 3,"));
  CHECK(contains(result.error, "turboquant:k=2:v=2"));
  CHECK(contains(result.output, "the bundled text, 120 tokens"));
  const json file = json::parse(read_text(path));
  CHECK(file["kind"] == "evaluation");
  CHECK(file["schema"] == 1);
  REQUIRE(file["codec_level"].size() == 12);
  CHECK(file["codec_level"][4]["distortion"] == doctest::Approx(0.0095).epsilon(0.05));
  CHECK(file["codec_level"][6]["input"] == "captured K");
  CHECK(file["settings"]["tokens"] == 120);
  REQUIRE(file["runs"].size() == 3);
  const auto mean = [&](std::size_t run) { return file["runs"][run]["agreement"]["all"]["kl"]["mean"].get<double>(); };
  CHECK(mean(0) < 1e-9);
  CHECK(mean(1) > 0);
  CHECK(mean(2) > mean(1));
  const int asked = file["reference"]["recall"]["total"]["asked"];
  CHECK(asked >= 6);
  for (const json& run : file["runs"]) {
    CHECK(run["recall"]["total"]["asked"] == asked);
    CHECK(run["recall"]["precision"] == "fast");
    CHECK(run["layers"].size() == 2);
    CHECK(run["cache_bytes"]["tokens"] == 119);
  }

  const auto more = run_tqkv(small({"--backend", "mlx_quant,turboquant", "--output", path.string(), "--resume"}));
  CHECK(more.exit_code == 0);
  CHECK(contains(more.error, "continues after 3 runs"));
  CHECK_FALSE(more.error.find("turboquant:k=4") != std::string::npos);
  const json longer = json::parse(read_text(path));
  REQUIRE(longer["runs"].size() == 4);
  CHECK(longer["runs"][1] == file["runs"][1]);
  CHECK(longer["codec_level"].size() == 16);
  CHECK(longer["runs"][3]["backend"] == "mlx_quant");
  const auto other = run_tqkv(small({"--backend", "mlx_quant", "--output", path.string(), "--resume", "--seed", "5"}));
  CHECK(other.exit_code == 1);
  CHECK(contains(other.error, "was"));
  CHECK(json::parse(read_text(path)) == longer);
}

TEST_CASE("evaluate takes any text, and says when it is short or not UTF-8") {
  const test::TemporaryDirectory folder;
  const std::string brief = folder.write("brief.txt", "A short text about caches.");
  const auto result = run_tqkv({"evaluate", "pocket", "--text", brief, "--no-recall", "--no-noise-floor"});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.error, "all of it is used"));
  CHECK(contains(result.output, "all it has; 4096 were asked"));
  const std::string binary = folder.write("binary.bin", std::string("\xff\x00\xfe\x80 bytes of anything \xc3", 24));
  const auto odd = run_tqkv({"evaluate", "pocket", "--text", binary, "--no-recall", "--no-noise-floor"});
  CHECK(odd.exit_code == 0);
  CHECK(contains(odd.error, "invalid UTF-8"));
  const auto empty = run_tqkv({"evaluate", "pocket", "--text", folder.write("empty.txt", "")});
  CHECK(empty.exit_code == 1);
  CHECK(contains(empty.error, "empty.txt: the text has 0 tokens"));
}

TEST_CASE("evaluate captures keys and values, and measures single vectors alone") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "kv.safetensors";
  const auto result = run_tqkv({"evaluate", "pocket", "--tokens", "40", "--no-recall", "--no-noise-floor", "--backend",
                                "trellis", "--capture", path.string()});
  CHECK(result.exit_code == 0);
  CHECK(std::filesystem::file_size(path) > 2 * 2 * 39 * 512 * 4);
  CHECK(contains(result.output, "captured V"));
  const auto alone = run_tqkv({"evaluate", "pocket", "--no-recall", "--no-agreement", "--backend", "trellis"});
  CHECK(alone.exit_code == 0);
  CHECK(contains(alone.output, "gaussian"));
}

TEST_CASE("evaluate refuses what it cannot do before it runs, and leaves no file") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder.path() / "q.json").string();
  const auto refused = [&](std::vector<std::string> arguments, int exit_code) {
    arguments.insert(arguments.begin(), {"evaluate", "pocket", "--output", path});
    const auto result = run_tqkv(arguments);
    CHECK(result.exit_code == exit_code);
    CHECK(result.output.empty());
    CHECK(std::filesystem::is_empty(folder.path()));
  };
  refused({"--backend", "no_such_backend"}, 2);
  refused({"--backend", "turboquant,turboquant"}, 2);
  refused({"--preset", "slow"}, 2);
  refused({"--tokens", "1"}, 2);
  refused({"--tokens", "40000"}, 2);
  refused({"--lengths", "32768"}, 2);
  refused({"--tasks", "riddle"}, 2);
  refused({"--no-recall", "--no-agreement", "--no-codec-level"}, 2);
  refused({"--no-agreement", "--capture", (folder.path() / "kv").string()}, 2);
  refused({"--capture", "/proc/none/kv"}, 1);
  refused({"--logits", "/proc/none/logits"}, 1);
  CHECK(run_tqkv({"evaluate", "pocket", "--resume"}).exit_code == 2);
  CHECK(run_tqkv({"evaluate", "pocket", "--output", "/proc/none/q.json"}).exit_code == 1);
}
