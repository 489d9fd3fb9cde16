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

namespace {

std::string benchmark(const test::TemporaryDirectory& folder, const std::string& backend, const std::string& prompt) {
  const std::string path = (folder.path() / (backend + prompt + ".json")).string();
  const auto result = run_tqkv({"benchmark", "pocket", "--backend", backend, "--prompt-tokens", prompt,
                                "--generation-tokens", "2", "--trials", "1", "--output", path});
  REQUIRE(result.exit_code == 0);
  return path;
}

}  // namespace

TEST_CASE("compare puts separate runs side by side, marks them unpaired and writes the summary") {
  const test::TemporaryDirectory folder;
  const std::string baseline = benchmark(folder, "baseline", "16"), turboquant = benchmark(folder, "turboquant", "16");
  const std::string summary = (folder.path() / "made" / "summary.json").string();
  const auto result = run_tqkv({"compare", baseline, turboquant, "--output", summary});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.output, "baseline"));
  CHECK(contains(result.output, "turboquant"));
  CHECK(contains(result.output, "unpaired"));
  const json figures = json::parse(read_text(summary));
  CHECK(figures["unpaired"] == true);
  CHECK(figures["lengths"][0]["rows"].size() == 2);

  const auto other_length = run_tqkv({"compare", baseline, benchmark(folder, "turboquant", "8")});
  CHECK(other_length.exit_code == 1);
  CHECK(other_length.output.empty());
  CHECK(contains(other_length.error, "only equal lengths can be compared"));
}

TEST_CASE("compare refuses files that are missing or no benchmark, and needs at least one") {
  const test::TemporaryDirectory folder;
  const auto broken = run_tqkv({"compare", folder.write("broken.json", "{\"schema\": 1,")});
  CHECK(broken.exit_code == 1);
  CHECK(contains(broken.error, "broken.json: is not valid JSON"));
  CHECK(run_tqkv({"compare", (folder.path() / "absent.json").string()}).exit_code == 1);
  CHECK(run_tqkv({"compare"}).exit_code == 2);
}
