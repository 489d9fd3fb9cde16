#include "hub/verify.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "hub/pull.h"
#include "support/environment.h"
#include "support/failure.h"
#include "support/places.h"
#include "support/process.h"
#include "test_hub.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* first_shard = TestRepository::first_shard;

std::string fault_of(const hub::Verification& result, const std::string& path) {
  for (const hub::CheckedFile& file : result.files)
    if (file.expected.path == path) return file.fault;
  return "not checked";
}

void change_byte(const fs::path& file, int at) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(at);
  const int byte = stream.get();
  stream.seekp(at);
  stream.put(static_cast<char>(byte ^ 1));
}

}  // namespace

TEST_CASE("a folder is compared with what the hub says of every needed file") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  const hub::ExpectedFiles expected =
      hub::expected_files(settings_for(hub, cache.path()), *parse_hub_name("org/name"), nullptr);
  CHECK(expected.files.size() == 8);
  CHECK(hub.requests("data").empty());
  const auto check = [&] { return hub::verify(repository.folder(), expected, nullptr, {}, {}); };
  CHECK(check().faults() == 0);

  change_byte(repository.folder() / first_shard, 77777);
  change_byte(repository.folder() / "config.json", 0);
  std::ofstream(repository.folder() / "tokenizer_config.json") << "{ }";
  fs::remove(repository.folder() / "tokenizer.json");
  std::ofstream(repository.folder() / "more.txt") << "nobody asks";
  const hub::Verification result = check();
  CHECK(result.faults() == 4);
  CHECK(contains(fault_of(result, first_shard), "has the hash " + sha256_hex(repository.text(first_shard))));
  CHECK(contains(fault_of(result, "config.json"), "has the hash"));
  CHECK(fault_of(result, "tokenizer_config.json") == "has 3 bytes, expected 2");
  CHECK(fault_of(result, "tokenizer.json") == "is missing");
  CHECK(fault_of(result, "chat_template.jinja").empty());
}

TEST_CASE("a snapshot of the cache is checked without a network by the names of its blobs") {
  const TestRepository repository;
  const TemporaryDirectory cache;
  fs::path snapshot;
  {
    const TestHub hub(repository.scenario());
    const hub::Settings settings = settings_for(hub, cache.path());
    snapshot =
        hub::pull(settings, hub::plan_pull(settings, *parse_hub_name("org/name"), nullptr), nullptr, {}).snapshot;
  }
  const auto check = [&] { return hub::verify(snapshot, hub::expected_files(snapshot).value(), nullptr, {}, {}); };
  CHECK(check().files.size() == 8);
  CHECK(check().faults() == 0);
  change_byte(snapshot / "tokenizer.json", 5);
  change_byte(snapshot / first_shard, 5);
  CHECK(check().faults() == 2);
  fs::remove(snapshot / first_shard);
  CHECK(fault_of(check(), first_shard) == "is missing");
  CHECK(!hub::expected_files(repository.folder()));  // a folder without links tells nothing
}

TEST_CASE("tqkv verify names the bad file and exits with 1") {
  const CleanEnvironment clean;
  const TestRepository repository;
  const TemporaryDirectory cache;
  TestHub hub(repository.scenario());
  ProcessOptions options;
  options.environment = {{"HF_ENDPOINT", hub.endpoint()},
                         {"HF_HUB_CACHE", cache.path().string()},
                         {"HF_HOME", cache.path().string()},
                         {"no_proxy", "127.0.0.1"}};
  const std::vector<std::string> folder = {"verify", repository.folder().string(), "--against", "org/name"};
  const ProcessResult good = run_tqkv(folder, options);
  CHECK_MESSAGE(good.exit_code == 0, good.error);
  CHECK(contains(good.output, std::string("good  ") + first_shard + ": 300,000 bytes"));
  CHECK(good.error.empty());

  CHECK(run_tqkv({"pull", "org/name"}, options).exit_code == 0);
  const fs::path blob = cache / "models--org--name/blobs" / sha256_hex(repository.text(first_shard));
  CHECK(run_tqkv({"verify", "org/name"}, options).exit_code == 0);
  CHECK(run_tqkv({"verify", "org/name", "--online"}, options).exit_code == 0);
  change_byte(blob, 123);
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"verify", "org/name"}, {"verify", "org/name", "--online"}}) {
    const ProcessResult bad = run_tqkv(arguments, options);
    CHECK(bad.exit_code == 1);
    CHECK(contains(bad.error, first_shard));
    CHECK(contains(bad.error, "has the hash"));
    CHECK(contains(bad.output, std::string("BAD   ") + first_shard));
  }
}

TEST_CASE("a folder that looks like the first model is compared with the recorded list") {
  const CleanEnvironment clean;
  const TemporaryDirectory folder;
  fs::copy_file(test::source_dir() + "/models/configs/qwen3.5-35b-a3b-4bit.json", folder / "config.json");
  folder.write("tokenizer_config.json", "{}");
  const ProcessResult result = run_tqkv({"verify", folder.path().string()});
  CHECK(result.exit_code == 1);
  CHECK(contains(result.output, "the recorded list of mlx-community/Qwen3.5-35B-A3B-4bit@1e20fd8"));
  CHECK(contains(result.output, "good  config.json: 3,809 bytes"));
  CHECK(contains(result.output, "BAD   tokenizer_config.json: has 2 bytes, expected 1,139"));
  CHECK(contains(result.output, "BAD   model-00001-of-00004.safetensors: is missing"));
  CHECK(contains(result.error, "8 more are bad"));
  const TemporaryDirectory other;
  other.write("config.json", "{}");
  const ProcessResult unknown = run_tqkv({"verify", other.path().string()});
  CHECK(unknown.exit_code == 1);
  CHECK(contains(unknown.error, "say with --against org/name"));
}

TEST_CASE("what a model should be is told by its name where that is recorded, else by its folder") {
  constexpr const char* recorded = "mlx-community/Qwen3.5-35B-A3B-4bit";
  const PublishedCheckpoint* published = published_checkpoint(recorded);
  REQUIRE(published != nullptr);
  CHECK(hub::expected_files(*parse_hub_name(recorded)).files.size() == published->files.size());
  const TemporaryDirectory cache;
  const fs::path snapshot = cache.path() / std::string(published->revision);
  CHECK(hub::expected_files_of(recorded, snapshot).files.size() == published->files.size());
  CHECK(contains(failure(ErrorKind::checkpoint, [&] { hub::expected_files_of(cache.path().string(), cache.path()); }),
                 "--against"));
}
