// The models in the cache: what is listed, what is removed, and a file system without locks and links.
#include "hub/stored.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "hub/cache.h"
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

const std::string old_commit = "89abcdef0123456789abcdef0123456789abcdef";

/// A cache with two revisions of org/name that share a shard, made as a pull makes it.
class TwoRevisions {
 public:
  TwoRevisions() {
    add(main_commit, "main", {{"config.json", "a"}, {"tokenizer.json", "b"}, {"model.safetensors", "shared"}});
    add(old_commit, "v1", {{"config.json", "c"}, {"tokenizer.json", "b"}, {"model.safetensors", "shared"}});
  }
  fs::path cache() const { return folder_.path(); }
  fs::path repository() const { return folder_ / "models--org--name"; }
  fs::path blob(const std::string& text) const { return repository() / "blobs" / sha256_hex(text); }
  fs::path snapshot(const std::string& commit) const { return repository() / "snapshots" / commit; }
  std::string write(const std::string& path, const std::string& text) const { return folder_.write(path, text); }

 private:
  void add(const std::string& commit, const std::string& revision, const std::map<std::string, std::string>& files) {
    const hub::RepositoryCache cache(folder_.path(), *parse_hub_name("org/name"));
    cache.prepare(commit);
    for (const auto& [path, text] : files) {
      folder_.write("models--org--name/blobs/" + sha256_hex(text), text);
      cache.link(commit, path, sha256_hex(text));
    }
    cache.point(revision, commit);
  }
  TemporaryDirectory folder_;
};

ProcessOptions in_cache(const fs::path& cache) {
  ProcessOptions options;
  options.environment = {{"HF_HUB_CACHE", cache.string()}, {"HF_HOME", cache.string()}};
  return options;
}

hub::Removal removal_of(const TwoRevisions& stored, const std::string& name, bool everything) {
  return hub::plan_removal(stored.cache(), *parse_hub_name(name), everything);
}

}  // namespace

TEST_CASE("the models of the cache are listed with their sizes, and what is partial says what it lacks") {
  const TwoRevisions stored;
  stored.write("models--org--part/blobs/abc.incomplete", std::string(1000, 'x'));
  stored.write("models--org--lost/snapshots/" + old_commit + "/config.json", "{}");
  stored.write("models--what-is-this", "a file");
  stored.write("datasets--org--name/blobs/x", "no model");
  const auto models = hub::stored_models(stored.cache());
  REQUIRE(models.size() == 3);
  CHECK(models[0].id == "org/lost");
  CHECK(!models[0].whole());
  CHECK(models[0].revisions.at(0).missing == "tokenizer.json");
  CHECK(models[1].id == "org/name");
  CHECK(models[1].whole());
  CHECK(models[1].bytes == 9 + 2 * 40);  // every blob once, and the two references
  REQUIRE(models[1].revisions.size() == 2);
  CHECK(models[1].revisions[0].names == std::vector<std::string>{"main"});
  CHECK(models[1].revisions[0].bytes == 8);
  CHECK(models[2].id == "org/part");
  CHECK(models[2].unfinished == 1000);
  CHECK(models[2].revisions.empty());
  CHECK(hub::stored_models(stored.cache() / "nowhere").empty());

  const ProcessResult list = run_tqkv({"models"}, in_cache(stored.cache()));
  CHECK(list.exit_code == 0);
  for (const char* part : {"pocket", "bundled", "org/name", "main (0123456789ab)", "v1 (89abcdef0123)", "whole",
                           "partial: no tokenizer.json", "partial; 1.0 kB of an unfinished download", "3 models in "})
    CHECK_MESSAGE(contains(list.output, part), part);
  const json object = json::parse(run_tqkv({"models", "--json"}, in_cache(stored.cache())).output);
  CHECK(object["cache"] == stored.cache().string());
  REQUIRE(object["models"].size() == 4);
  CHECK(object["models"][0]["name"] == "pocket");
  CHECK(object["models"][0]["bundled"] == true);
  CHECK(object["models"][0]["bytes"] > 1000000);
  CHECK(object["models"][2]["bytes"] == 89);
  CHECK(object["models"][2]["revisions"][1]["names"] == json::array({"v1"}));
  CHECK(object["models"][2]["revisions"][1]["missing"].is_null());
  CHECK(object["models"][3]["unfinished_bytes"] == 1000);
}

TEST_CASE("removing a revision keeps the files that another revision has") {
  const TwoRevisions stored;
  const hub::Removal removal = removal_of(stored, "org/name@v1", false);
  CHECK(!removal.everything);
  CHECK(removal.bytes == 1);
  hub::remove(stored.cache(), removal);
  CHECK(!fs::exists(stored.snapshot(old_commit)));
  CHECK(!fs::exists(stored.blob("c")));
  CHECK(!fs::exists(stored.repository() / "refs/v1"));
  for (const char* file : {"config.json", "tokenizer.json", "model.safetensors"})
    CHECK(fs::exists(stored.snapshot(main_commit) / file));
  CHECK(find_in_hub_cache(*parse_hub_name("org/name"), stored.cache()) == stored.snapshot(main_commit));
  CHECK(removal_of(stored, "org/name@main", false).everything);  // the last one takes everything with it
}

TEST_CASE("removing a model removes all of it and nothing else") {
  const TwoRevisions stored;
  const TemporaryDirectory elsewhere;
  elsewhere.write("keep", "me");
  fs::create_directory_symlink(elsewhere.path(), stored.repository() / "link");
  fs::create_directory_symlink(elsewhere.path(), stored.snapshot(main_commit) / "link");
  stored.write(".locks/models--org--name/x.lock", "");
  stored.write("models--org--other/refs/main", main_commit);
  hub::remove(stored.cache(), removal_of(stored, "org/name", true));
  CHECK(!fs::exists(stored.repository()));
  CHECK(!fs::exists(stored.cache() / ".locks/models--org--name"));
  CHECK(fs::exists(stored.cache() / "models--org--other/refs/main"));
  CHECK(fs::exists(elsewhere / "keep"));
  CHECK(std::distance(fs::directory_iterator(stored.cache()), fs::directory_iterator()) == 2);

  fs::create_directory_symlink(elsewhere.path(), stored.repository());
  CHECK(contains(failure(ErrorKind::io, [&] { removal_of(stored, "org/name", true); }), "is a link"));
  CHECK(
      contains(failure(ErrorKind::checkpoint, [&] { removal_of(stored, "org/absent", true); }), "is not in the cache"));
  CHECK(fs::exists(elsewhere / "keep"));
}

TEST_CASE("references and snapshots that are links lead no removal out of the cache") {
  const TwoRevisions stored;
  const TemporaryDirectory elsewhere;
  const std::string reference = elsewhere.write("v1", old_commit);
  elsewhere.write(old_commit + "/config.json", "mine");
  fs::rename(stored.repository() / "refs", elsewhere / "refs");
  fs::create_directory_symlink(elsewhere.path(), stored.repository() / "refs");
  hub::remove(stored.cache(), removal_of(stored, "org/name@" + old_commit, false));
  CHECK(fs::exists(reference));
  fs::remove_all(stored.repository() / "snapshots");
  fs::create_directory_symlink(elsewhere.path(), stored.repository() / "snapshots");
  CHECK(contains(failure(ErrorKind::checkpoint, [&] { removal_of(stored, "org/name@" + old_commit, false); }),
                 "is not in the cache"));
  CHECK(fs::exists(elsewhere / old_commit / "config.json"));
}

TEST_CASE("a model that another process downloads is not removed") {
  const TwoRevisions stored;
  const std::string lock = stored.write(".locks/models--org--name/x.lock", "");
  const int held = ::open(lock.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(::flock(held, LOCK_EX) == 0);
  const hub::Removal removal = removal_of(stored, "org/name", true);
  CHECK(contains(failure(ErrorKind::hub, [&] { hub::remove(stored.cache(), removal); }),
                 "another process is downloading"));
  CHECK(fs::exists(stored.snapshot(main_commit) / "config.json"));
  ::close(held);
  hub::remove(stored.cache(), removal);
  CHECK(!fs::exists(stored.repository()));
}

TEST_CASE("tqkv models remove asks first, and where nobody can be asked it wants --yes") {
  const TwoRevisions stored;
  const ProcessOptions options = in_cache(stored.cache());
  const ProcessResult asked = run_tqkv({"models", "remove", "org/name"}, options);
  CHECK(asked.exit_code == 2);
  CHECK(contains(asked.error, "give --yes"));
  CHECK(fs::exists(stored.repository()));
  if (fs::exists("/usr/bin/script")) {
    for (const auto& [answer, removed] : {std::pair("n", false), std::pair("", false), std::pair("y", true)}) {
      ProcessOptions terminal = options;
      terminal.input = std::string(answer) + "\n";
      const ProcessResult result =
          run({"/usr/bin/script", "-qec", test::program() + " models remove org/name@v1", "/dev/null"}, terminal);
      CAPTURE(result.output);
      CHECK(contains(result.output, "org/name at " + old_commit));
      CHECK(contains(result.output, "remove it? [y/N]"));
      CHECK(fs::exists(stored.snapshot(old_commit)) == !removed);
      CHECK(result.exit_code == (removed ? 0 : 1));
    }
  } else {
    MESSAGE("there is no script(1), so no terminal to ask at: skipped");
  }
  const ProcessResult yes = run_tqkv({"models", "remove", "https://huggingface.co/org/name", "--yes"}, options);
  CHECK_MESSAGE(yes.exit_code == 0, yes.error);
  CHECK(contains(yes.error, "org/name: removed, "));
  CHECK(!fs::exists(stored.repository()));
  const ProcessResult again = run_tqkv({"models", "remove", "org/name", "--yes"}, options);
  CHECK(again.exit_code == 1);
  CHECK(contains(again.error, "tqkv: [checkpoint] org/name: is not in the cache"));
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"models", "remove"},
                                                {"models", "remove", "pocket", "--yes"},
                                                {"models", "remove", "../x", "--yes"},
                                                {"models", "delete", "org/name"},
                                                {"models", "--yes"}})
    CHECK(run_tqkv(wrong, options).exit_code == 2);
}

#if defined(TQKV_NO_LINKS)
TEST_CASE("where a file system has neither locks nor links a pull makes copies, and verify accepts and checks them") {
  const CleanEnvironment clean;
  const TestRepository repository;
  const TemporaryDirectory cache;
  const TestHub hub(repository.scenario());
  ProcessOptions options = in_cache(cache.path());
  options.environment.insert(
      options.environment.end(),
      {{"HF_ENDPOINT", hub.endpoint()}, {"no_proxy", "127.0.0.1"}, {"LD_PRELOAD", TQKV_NO_LINKS}});
  const ProcessResult pulled = run_tqkv({"pull", "org/name"}, options);
  CHECK_MESSAGE(pulled.exit_code == 0, pulled.error);
  const fs::path folder = cache / "models--org--name", snapshot = folder / "snapshots" / main_commit;
  const fs::path shard = snapshot / TestRepository::first_shard;
  CHECK(fs::is_regular_file(fs::symlink_status(shard)));
  CHECK(file_text(shard) == repository.text(TestRepository::first_shard));
  const ProcessResult verified = run_tqkv({"verify", "org/name"}, options);
  CHECK_MESSAGE(verified.exit_code == 0, verified.error);
  CHECK(contains(verified.output, std::string("good  ") + TestRepository::first_shard));
  const std::size_t fetched = hub.requests("data").size();
  CHECK(run_tqkv({"pull", "org/name"}, options).exit_code == 0);
  CHECK(hub.requests("data").size() == fetched);

  // As huggingface_hub leaves it there: the files themselves, and no blobs.
  fs::rename(folder / "blobs", folder / "away");
  const ProcessResult again = run_tqkv({"pull", "org/name"}, options);
  CHECK_MESSAGE(again.exit_code == 0, again.error);
  CHECK(hub.requests("data").size() == fetched);
  fs::remove_all(folder / "blobs");
  fs::rename(folder / "away", folder / "blobs");

  std::string text = repository.text(TestRepository::first_shard);
  text[1000] = static_cast<char>(text[1000] ^ 1);
  std::ofstream(shard, std::ios::binary) << text;
  const ProcessResult changed = run_tqkv({"verify", "org/name"}, options);
  CHECK(changed.exit_code == 1);
  CHECK(contains(changed.output, std::string("BAD   ") + TestRepository::first_shard + ": has the hash"));
  fs::resize_file(shard, 1000);
  CHECK(contains(run_tqkv({"verify", "org/name"}, options).output,
                 std::string("BAD   ") + TestRepository::first_shard + ": is neither a link to a blob nor a copy"));
}
#endif
