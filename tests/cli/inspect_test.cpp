#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "support/failure.h"
#include "support/places.h"
#include "support/process.h"

using namespace tqkv;
using nlohmann::json;
using test::contains;
using test::run_tqkv;

namespace {

const std::string large_config = test::source_dir() + "/models/configs/qwen3.5-35b-a3b-4bit.json";

}  // namespace

TEST_CASE("inspect shows every published figure of the 35B shape from its config alone, with no further options") {
  const auto result = run_tqkv({"inspect", large_config});
  CHECK(result.exit_code == 0);
  CHECK(result.error.empty());
  for (const char* figure : {"80.12", "75.02", "(42.09)", "44.77", "46.20", "43.62", "44.91", "38,174,720",
                             "35,696,640", "33,709,440", "34,406,400", "20,480", "5,760", "5,200", "262,144"}) {
    CHECK(contains(result.output, figure));
  }
}

TEST_CASE("inspect takes other lengths and gives its figures as JSON in a file that it makes the folder for") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "new" / "figures.json";
  const auto result = run_tqkv({"inspect", "pocket", "--prompt-tokens", "64,300", "--generation-tokens", "1,4",
                                "--json", "--output", path.string()});
  CHECK(result.exit_code == 0);
  CHECK(result.output.empty());
  const json figures = json::parse(read_text(path));
  CHECK(figures["architecture"]["model_type"] == "qwen3_5_moe");
  CHECK(figures["weights_from"] == "files");
  REQUIRE(figures["stored"].size() == 4 * figures["formats"].size());
  CHECK(figures["stored"][0]["stored_tokens"] == 64);
  CHECK(figures["stored"].back()["stored_tokens"] == 303);
  // 2 layers, 2 heads, 256 channels, bf16, K and V; two pages of 256 tokens.
  const json& baseline = figures["stored"][2 * figures["formats"].size()]["f32_state"];
  CHECK(baseline["kv_used"] == 300 * 4096);
  CHECK(baseline["kv_allocated"] == 512 * 4096);
}

TEST_CASE("inspect refuses what is no model with one line") {
  const test::TemporaryDirectory folder;
  const auto broken = run_tqkv({"inspect", folder.write("config.json", "{\"model_type\": 3")});
  CHECK(broken.exit_code == 1);
  CHECK(broken.output.empty());
  CHECK(contains(broken.error, "[config]"));
  CHECK(run_tqkv({"inspect", "pocket", "--prompt-tokens", "40000"}).exit_code == 2);
  CHECK(run_tqkv({"inspect", "pocket", "--prompt-tokens", "0"}).exit_code == 2);
  CHECK(run_tqkv({"inspect", (folder.path() / "absent").string()}).exit_code != 0);
}

TEST_CASE("inspect leaves no file behind when it fails") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "out.txt";
  CHECK(run_tqkv({"inspect", "pocket", "--prompt-tokens", "40000", "--output", path.string()}).exit_code == 2);
  CHECK(std::filesystem::is_empty(folder.path()));
}
