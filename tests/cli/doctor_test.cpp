// tqkv doctor.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "support/failure.h"
#include "support/process.h"

using namespace tqkv::test;

TEST_CASE("doctor shows the machine and what every device needs, in words and as JSON") {
  const ProcessResult words = run_tqkv({"doctor"});
  CHECK(words.exit_code == 0);
  CHECK(words.error.empty());
  for (const char* part : {"processor ", "memory ", " free\n", "device cpu    cpu:isa=", "instruction sets: ",
                           "portable", "device cuda   not usable: ", "Keys and values of Qwen3.5-35B-A3B:", "131,072 "})
    CHECK(contains(words.output, part));

  const ProcessResult result = run_tqkv({"doctor", "--json"});
  CHECK(result.exit_code == 0);
  const nlohmann::json json = nlohmann::json::parse(result.output);
  CHECK(json["kind"] == "diagnosis");
  CHECK(json["cores"].get<int>() > 0);
  CHECK(json["memory"].get<std::uint64_t>() >= json["available"].get<std::uint64_t>());
  REQUIRE(json["devices"].size() == 3);
  CHECK(json["devices"][0]["usable"] == true);
  CHECK(json["devices"][0]["device"].get<std::string>().starts_with("cpu:isa="));
  CHECK(json["devices"][2]["usable"] == false);
  CHECK(!json["devices"][2]["missing"].get<std::string>().empty());
  // 10 layers, 2 heads, keys and values of 256 channels in bf16.
  CHECK(json["caches"][0]["tokens"] == 2048);
  CHECK(json["caches"][0]["kv_bytes"]["baseline"] == 2048u * 10 * 2 * 2 * 256 * 2);
  CHECK(json["caches"][0]["kv_bytes"]["turboquant"] == 2048u * 10 * 2 * 2 * 130);
}

TEST_CASE("doctor refuses what it does not know and a file that cannot be written") {
  CHECK(run_tqkv({"doctor", "pocket"}).exit_code == 2);
  const ProcessResult nowhere = run_tqkv({"doctor", "--output", "/proc/none/doctor.json"});
  CHECK(nowhere.exit_code == 1);
  CHECK(contains(nowhere.error, "/proc/none: the folder cannot be created"));
}
