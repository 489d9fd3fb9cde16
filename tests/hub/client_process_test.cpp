// The program against a hub on loopback: killed, interrupted, behind a proxy, and fetching what it was asked to run.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "support/environment.h"
#include "support/failure.h"
#include "support/places.h"
#include "support/process.h"
#include "support/sanitized.h"
#include "test_hub.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* first_shard = TestRepository::first_shard;
constexpr const char* second_shard = TestRepository::second_shard;

ProcessOptions options_for(const std::string& endpoint, const fs::path& cache) {
  ProcessOptions options;
  options.environment = {{"HF_ENDPOINT", endpoint},
                         {"HF_HUB_CACHE", cache.string()},
                         {"HF_HOME", cache.string()},
                         {"no_proxy", "127.0.0.1,localhost"}};
  return options;
}

/// Bytes of a shard that are in the cache.
std::uint64_t kept(const fs::path& cache, const TestRepository& repository, const char* shard) {
  const fs::path blob = cache / "models--org--name/blobs" / sha256_hex(repository.text(shard));
  std::error_code error;
  if (fs::exists(blob, error)) return fs::file_size(blob);
  const fs::path part = blob.string() + ".incomplete";
  return fs::exists(part, error) ? fs::file_size(part) : 0;
}

}  // namespace

TEST_CASE("a client that is killed at any point goes on from the last byte that it kept" *
          doctest::skip(tqkv::test::sanitized)) {
  const CleanEnvironment clean;
  const TestRepository repository(3000000);
  const TemporaryDirectory cache;
  std::mt19937 random(7);
  const auto below = [&](std::uint64_t end) { return random() % end; };
  std::map<std::string, std::uint64_t> before;
  const auto check_ranges = [&](const TestHub& hub) {
    for (const json& request : hub.requests("data")) {
      const std::uint64_t from = before[request["path"].get<std::string>()];
      CHECK(request["range"] == (from == 0 ? "" : fmt::format("bytes={}-", from)));
    }
  };
  for (int round = 0; round < 12; ++round) {
    CAPTURE(round);
    for (const char* shard : {first_shard, second_shard}) before[shard] = kept(cache.path(), repository, shard);
    // Where the hub holds the transfer, and the client dies: in the list, or somewhere in what is left of the shards.
    const bool alone = round % 3 == 0;
    int holds = 1;
    json rules = json::array({{{"on", "list"}, {"do", {{"hold", below(100)}}}}});
    if (round % 5 != 4) {
      holds = alone ? 1 : 2;
      rules = json::array();
      for (const char* shard : {first_shard, second_shard}) {
        const std::uint64_t left = repository.text(shard).size() - before[shard];
        REQUIRE(left > 4);
        rules.push_back({{"on", "data"}, {"path", shard}, {"do", {{"hold", below(left / 4)}}}});
      }
    }
    TestHub hub(repository.scenario(rules));
    ProcessOptions options = options_for(hub.endpoint(), cache.path());
    options.before_input = [&](pid_t client) {
      for (int i = 0; i < holds; ++i) hub.wait_until_held();
      ::kill(client, SIGKILL);
    };
    CHECK(run_tqkv({"pull", "org/name", "--connections", alone ? "1" : "4"}, options).exit_code == 128 + SIGKILL);
    check_ranges(hub);
    CHECK(!fs::exists(cache / "models--org--name/refs"));
    for (const char* shard : {first_shard, second_shard}) {
      CHECK(!fs::exists(cache / "models--org--name/blobs" / sha256_hex(repository.text(shard))));
      CHECK(kept(cache.path(), repository, shard) >= before[shard]);
    }
  }
  for (const char* shard : {first_shard, second_shard}) before[shard] = kept(cache.path(), repository, shard);
  CHECK(before[first_shard] > 0);
  TestHub hub(repository.scenario());
  const ProcessResult result = run_tqkv({"pull", "org/name"}, options_for(hub.endpoint(), cache.path()));
  CHECK(result.exit_code == 0);
  check_ranges(hub);
  const fs::path snapshot = cache / "models--org--name/snapshots" / main_commit;
  CHECK(result.output == snapshot.string() + "\n");
  for (const char* shard : {first_shard, second_shard}) CHECK(file_text(snapshot / shard) == repository.text(shard));
}

TEST_CASE("Ctrl-C keeps what came, says so, and the next pull goes on from there") {
  const CleanEnvironment clean;
  const TestRepository repository(1000000);
  const TemporaryDirectory cache;
  {
    TestHub hub(
        repository.scenario(json::array({{{"on", "data"}, {"path", first_shard}, {"do", {{"hold", 400000}}}}})));
    ProcessOptions options = options_for(hub.endpoint(), cache.path());
    options.before_input = [&](pid_t client) {
      hub.wait_until_held();
      ::kill(client, SIGINT);
    };
    const ProcessResult result = run_tqkv({"pull", "org/name"}, options);
    CHECK(result.exit_code == 130);
    CHECK(result.output.empty());
    CHECK(contains(result.error, "interrupted: "));
    CHECK(contains(result.error, "bytes are saved; 'tqkv pull org/name' resumes from there"));
  }
  const std::uint64_t part = kept(cache.path(), repository, first_shard);
  CHECK(part > 0);
  CHECK(part <= 400000);
  TestHub hub(repository.scenario());
  CHECK(run_tqkv({"pull", "org/name"}, options_for(hub.endpoint(), cache.path())).exit_code == 0);
  for (const json& request : hub.requests("data"))
    if (request["path"] == first_shard) CHECK(request["range"] == fmt::format("bytes={}-", part));
}

TEST_CASE("without a terminal progress is a line a file") {
  const CleanEnvironment clean;
  const TestRepository repository;
  const TemporaryDirectory cache;
  TestHub hub(repository.scenario());
  const ProcessResult result = run_tqkv({"pull", "org/name"}, options_for(hub.endpoint(), cache.path()));
  CHECK(result.exit_code == 0);
  CHECK(contains(result.error, fmt::format("tqkv: {}: 300,000 bytes\n", first_shard)));
  CHECK(contains(result.error, "tqkv: org/name: complete: "));
  CHECK(result.error.find('\r') == std::string::npos);
  CHECK(result.error.find('\033') == std::string::npos);
}

TEST_CASE("a model that is named and not there is fetched, and then runs without the hub") {
  const CleanEnvironment clean;
  const TemporaryDirectory cache;
  const std::vector<std::string> ask = {"generate", "org/pocket", "Hi, what can you help me with?", "--max-tokens",
                                        "8"};
  std::string answer;
  {
    json scenario = {
        {"repositories",
         {{"org/pocket", {{"folder", test::source_dir() + "/models/pocket"}, {"revisions", {{"main", main_commit}}}}}}},
        {"large", 100000}};
    TestHub hub(scenario);
    const ProcessResult result = run_tqkv(ask, options_for(hub.endpoint(), cache.path()));
    CHECK_MESSAGE(result.exit_code == 0, result.error);
    answer = result.output;
    CHECK(contains(answer, "I am a pocket-sized model"));
  }
  ProcessOptions offline = options_for("http://127.0.0.1:9", cache.path());
  offline.environment.emplace_back("HF_HUB_OFFLINE", "1");
  CHECK(run_tqkv(ask, offline).output == answer);
  const ProcessResult pull = run_tqkv({"pull", "org/pocket"}, offline);
  CHECK(pull.output == (cache / "models--org--pocket/snapshots" / main_commit).string() + "\n");
  // One shard less: the rest would have to be fetched, and may not.
  fs::remove(cache / "models--org--pocket/snapshots" / main_commit / "model-00002-of-00002.safetensors");
  const ProcessResult refused = run_tqkv(ask, offline);
  CHECK(refused.exit_code == 1);
  CHECK(contains(refused.error, "has no model-00002-of-00002.safetensors: the download is incomplete"));
  CHECK(contains(refused.error, "HF_HUB_OFFLINE is set"));
}

TEST_CASE("a dry run says what would be fetched, and fetches nothing") {
  const CleanEnvironment clean;
  const TestRepository repository;
  const TemporaryDirectory cache;
  TestHub hub(repository.scenario());
  const ProcessResult result = run_tqkv({"pull", "org/name", "--dry-run"}, options_for(hub.endpoint(), cache.path()));
  CHECK(result.exit_code == 0);
  CHECK(contains(result.output, fmt::format("org/name at {}", main_commit)));
  CHECK(contains(result.output, "300,000"));
  CHECK(contains(result.output, "enough"));
  CHECK(hub.requests("resolve").empty());
  CHECK(fs::is_empty(cache.path()));
}

TEST_CASE("a dry run without a network tells the first model from the recorded list, and what it could not reach") {
  const CleanEnvironment clean;
  const TemporaryDirectory cache;
  std::string endpoint;
  {
    const TestRepository repository;
    const TestHub hub(repository.scenario());
    endpoint = hub.endpoint();
  }  // nobody listens there any more
  const ProcessResult result =
      run_tqkv({"pull", "mlx-community/Qwen3.5-35B-A3B-4bit", "--dry-run"}, options_for(endpoint, cache.path()));
  CHECK(result.exit_code == 1);
  CHECK(contains(result.error, "tqkv: [hub] " + endpoint + " cannot be reached: "));
  CHECK(contains(result.output, "from the recorded list"));
  CHECK(contains(result.output, "model-00002-of-00004.safetensors"));
  CHECK(contains(result.output, "20,411,897,485 bytes (20.4 GB)"));
  CHECK(contains(result.output, "free at " + cache.path().string()));
  const ProcessResult other = run_tqkv({"pull", "org/other", "--dry-run"}, options_for(endpoint, cache.path()));
  CHECK(other.exit_code == 1);
  CHECK(other.output.empty());
}

TEST_CASE("proxies of the environment are used") {
  const CleanEnvironment clean;
  const TestRepository repository;
  const TemporaryDirectory cache;
  TestHub hub(repository.scenario());
  ProcessOptions options = options_for("http://hub.invalid", cache.path());
  options.environment.back() = {"no_proxy", ""};
  options.environment.emplace_back("NO_PROXY", "");
  options.environment.emplace_back("http_proxy", hub.endpoint());
  const ProcessResult result = run_tqkv({"pull", "org/name"}, options);
  CHECK_MESSAGE(result.exit_code == 0, result.error);
  for (const json& request : hub.requests("head"))
    CHECK(request["target"].get<std::string>().starts_with("http://hub.invalid/org/name/resolve/"));
}

TEST_CASE("what pull and verify are not given right is a usage error") {
  const CleanEnvironment clean;
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"pull"},
                                                    {"pull", "pocket"},
                                                    {"pull", "a/b/c"},
                                                    {"pull", "a/b@../x"},
                                                    {"pull", "a/b", "--connections", "0"},
                                                    {"verify"},
                                                    {"verify", "pocket", "--against", "nothing"}}) {
    const ProcessResult result = run_tqkv(arguments);
    CHECK(result.exit_code == 2);
    CHECK(contains(result.error, "tqkv: [usage] "));
  }
}
