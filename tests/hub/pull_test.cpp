// A whole pull from a hub on loopback, and everything that may go wrong on the way.
#include "hub/pull.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/joined_thread.h"
#include "loaders/hub.h"
#include "support/checkpoint_writer.h"
#include "support/failure.h"
#include "test_hub.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* first_shard = TestRepository::first_shard;
constexpr const char* second_shard = TestRepository::second_shard;
const std::vector<std::string> needed = {"chat_template.jinja", "config.json",          "generation_config.json",
                                         first_shard,           second_shard,           "model.safetensors.index.json",
                                         "tokenizer.json",      "tokenizer_config.json"};

HubName name_of(std::string_view text = "org/name") {
  return parse_hub_name(text).value();
}

hub::PullResult pull(const hub::Settings& settings, std::string_view name = "org/name",
                     const hub::PullEvents& events = {}) {
  return hub::pull(settings, hub::plan_pull(settings, name_of(name), nullptr), nullptr, events);
}

std::string refusal(const hub::Settings& settings, std::string_view name = "org/name") {
  return failure(ErrorKind::hub, [&] { pull(settings, name); });
}

/// Every needed file is in the snapshot and has its bytes; nothing incomplete is left.
void check_whole(const TestRepository& repository, const fs::path& cache,
                 const std::string& folder = "models--org--name") {
  const fs::path snapshot = cache / folder / "snapshots" / main_commit;
  for (const std::string& file : needed) {
    CAPTURE(file);
    CHECK(file_text(snapshot / file) == repository.text(file));
  }
  for (const auto& entry : fs::directory_iterator(cache / folder / "blobs"))
    CHECK(entry.path().extension() != ".incomplete");
}

std::vector<json> data_of(const TestHub& hub, const std::string& path) {
  std::vector<json> requests = hub.requests("data");
  std::erase_if(requests, [&](const json& request) { return request["path"] != path; });
  return requests;
}

/// One rule for the data of the first shard.
json on_data(json action, int times = 1) {
  return json::array({{{"on", "data"}, {"path", first_shard}, {"times", times}, {"do", std::move(action)}}});
}

}  // namespace

TEST_CASE("a pull fills the cache as huggingface_hub lays it out") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  const hub::PullResult result = pull(settings_for(hub, cache.path()));
  CHECK(!result.interrupted);
  CHECK(result.snapshot == cache / "models--org--name/snapshots" / main_commit);
  CHECK(result.progress.kept == result.progress.bytes);
  CHECK(result.progress.received == result.progress.bytes);
  check_whole(repository, cache.path());

  const fs::path root = cache / "models--org--name";
  CHECK(file_text(root / "refs/main") == main_commit);  // without a line break
  const std::string hash = sha256_hex(repository.text(first_shard));
  CHECK(fs::read_symlink(result.snapshot / first_shard) == "../../blobs/" + hash);
  CHECK(fs::is_regular_file(root / "blobs" / hash));
  CHECK(fs::read_symlink(result.snapshot / "config.json").filename().string().size() == 40);  // git's hash
  CHECK(fs::exists(cache / ".locks/models--org--name" / (hash + ".lock")));
  CHECK(find_in_hub_cache(name_of(), cache.path()) == result.snapshot);
  CHECK(missing_from(result.snapshot).empty());
  // What nobody needs was not asked for.
  for (const json& request : hub.requests()) CHECK(request["path"] != "README.md");
  CHECK(!fs::exists(result.snapshot / "vocab.json"));
}

TEST_CASE("one revision is asked for, and then its commit alone") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  pull(settings_for(hub, cache.path()), "org/name@refs/pr/1");
  CHECK(file_text(cache / "models--org--name/refs/refs/pr/1") == main_commit);
  CHECK(hub.requests("list").size() == 1);
  CHECK(hub.requests("list")[0]["target"] == "/api/models/org/name/revision/refs%2Fpr%2F1?blobs=true");
  for (const std::string kind : {"head", "resolve"})
    for (const json& request : hub.requests(kind))
      CHECK(request["target"].get<std::string>().starts_with(fmt::format("/org/name/resolve/{}/", main_commit)));
  for (const json& request : hub.requests()) CHECK(request["encoding"] == "identity");
  CHECK(hub.requests("head").size() == needed.size());
  CHECK(hub.requests("data").size() == 2);
}

TEST_CASE("a commit as the revision leaves no reference, and is found by itself") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  const std::string name = fmt::format("org/name@{}", main_commit);
  const hub::PullResult result = pull(settings_for(hub, cache.path()), name);
  CHECK(!fs::exists(cache / "models--org--name/refs"));
  CHECK(find_in_hub_cache(name_of(name), cache.path()) == result.snapshot);
}

TEST_CASE("the token goes to the hub and nowhere else") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  hub::Settings settings = settings_for(hub, cache.path());
  settings.token = "hf_secret";
  pull(settings);
  for (const json& request : hub.requests()) {
    CAPTURE(request.dump());
    const bool at_hub = request["host"] == fmt::format("127.0.0.1:{}", hub.port());
    CHECK(request["token"] == (at_hub ? "Bearer hf_secret" : ""));
    CHECK(at_hub == (request["kind"] != "data"));
  }
  CHECK(hub.requests("data").size() == 2);
}

TEST_CASE("a second pull asks what there is and fetches nothing") {
  const TestRepository repository;
  const TemporaryDirectory cache;
  {
    const TestHub hub(repository.scenario());
    pull(settings_for(hub, cache.path()));
  }
  const TestHub hub(repository.scenario());
  const hub::PullResult result = pull(settings_for(hub, cache.path()));
  CHECK(result.progress.received == 0);
  CHECK(hub.requests("resolve").empty());
  CHECK(hub.requests("data").empty());
  check_whole(repository, cache.path());
}

TEST_CASE("a transfer that is cut goes on from its last byte") {
  const TestRepository repository;
  const TestHub hub(repository.scenario(on_data({{"cut", 100000}}, 2)));
  const TemporaryDirectory cache;
  const hub::PullResult result = pull(settings_for(hub, cache.path()));
  check_whole(repository, cache.path());
  const auto requests = data_of(hub, first_shard);
  REQUIRE(requests.size() == 3);
  CHECK(requests[0]["range"] == "");
  CHECK(requests[1]["range"] == "bytes=100000-");
  CHECK(requests[2]["range"] == "bytes=200000-");
  CHECK(result.progress.received == result.progress.bytes);
}

TEST_CASE("a link that expired in the middle is asked for again") {
  const TestRepository repository;
  json rules = on_data({{"cut", 100000}});
  rules.push_back({{"on", "data"}, {"path", first_shard}, {"times", 2}, {"do", {{"status", 403}}}});
  const TestHub hub(repository.scenario(rules));
  const TemporaryDirectory cache;
  const hub::PullResult result = pull(settings_for(hub, cache.path()));
  check_whole(repository, cache.path());
  const auto requests = data_of(hub, first_shard);
  REQUIRE(requests.size() == 4);
  CHECK(requests[3]["range"] == "bytes=100000-");
  auto resolves = hub.requests("resolve");
  std::erase_if(resolves, [](const json& request) { return request["path"] != first_shard; });
  CHECK(resolves.size() == 4);  // every time a link of its own
  CHECK(result.progress.received == result.progress.bytes);
}

TEST_CASE("200 instead of 206 starts the file again") {
  const TestRepository repository;
  json rules = on_data({{"cut", 100000}});
  rules.push_back({{"on", "data"}, {"path", first_shard}, {"times", 1}, {"do", {{"whole", true}}}});
  const TestHub hub(repository.scenario(rules));
  const TemporaryDirectory cache;
  const hub::PullResult result = pull(settings_for(hub, cache.path()));
  check_whole(repository, cache.path());
  CHECK(data_of(hub, first_shard).size() == 2);
  CHECK(result.progress.received == result.progress.bytes + 100000);
  CHECK(result.progress.kept == result.progress.bytes);
}

TEST_CASE("busy answers are asked again, as late as they say") {
  const TestRepository repository;
  const json wait_none = {{"Retry-After", "0"}};
  for (const int status : {429, 500, 502, 503, 504}) {
    CAPTURE(status);
    json rules = json::array();
    for (const char* kind : {"list", "head", "resolve", "data"})
      rules.push_back({{"on", kind}, {"times", 3}, {"do", {{"status", status}, {"headers", wait_none}}}});
    const TestHub hub(repository.scenario(rules));
    const TemporaryDirectory cache;
    hub::Settings settings = settings_for(hub, cache.path());
    settings.retry_delay = std::chrono::hours(1);  // the header goes before it
    pull(settings);
    check_whole(repository, cache.path());
    CHECK(hub.requests("list").size() == 4);
  }
}

TEST_CASE("a hub that stays busy, or asks for too long a wait, ends the pull with one line") {
  const TestRepository repository;
  const TemporaryDirectory cache;
  {
    const TestHub hub(repository.scenario(json::array({{{"on", "list"}, {"do", {{"status", 503}}}}})));
    CHECK(contains(refusal(settings_for(hub, cache.path())), "the hub answers 503: try again later"));
    CHECK(hub.requests("list").size() == 6);
  }
  const json headers = {{"Retry-After", "86400"}};
  const TestHub hub(repository.scenario(on_data({{"status", 429}, {"headers", headers}}, 100)));
  CHECK(contains(refusal(settings_for(hub, cache.path())), "is answered with 429"));
  CHECK(data_of(hub, first_shard).size() == 1);
}

TEST_CASE("404, 401 and 403 say what is missing") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  hub::Settings settings = settings_for(hub, cache.path());
  CHECK(contains(refusal(settings, "org/other"), "org/other: there is no such repository, or it is private (no token"));
  settings.token = "hf_x";
  CHECK(contains(refusal(settings, "org/other"), "the token that was sent"));
  CHECK(contains(refusal(settings, "org/name@v7"), "has no revision \"v7\""));
  CHECK(!fs::exists(cache / "models--org--other"));

  const auto answered = [&](const char* kind, int status, const json& headers) {
    const TestHub refusing(
        repository.scenario(json::array({{{"on", kind}, {"do", {{"status", status}, {"headers", headers}}}}})));
    return refusal(settings_for(refusing, cache.path()));
  };
  CHECK(contains(answered("list", 401, json::object()), "there is no such repository"));
  CHECK(contains(answered("list", 404, {{"X-Error-Code", "RevisionNotFound"}}), "has no revision \"main\""));
  CHECK(contains(answered("head", 404, {{"X-Error-Code", "EntryNotFound"}}), "has no file "));
  CHECK(contains(answered("head", 403, {{"X-Error-Code", "GatedRepo"}}), "is gated: ask for access"));
  CHECK(contains(answered("resolve", 401, {{"X-Error-Code", "GatedRepo"}}), "is gated"));
  CHECK(contains(answered("resolve", 403, {{"X-Error-Message", "not\tyou"}}), "is refused with 403: not"));
  CHECK(contains(answered("head", 418, json::object()), "is answered with 418"));
}

TEST_CASE("a repository that moved is fetched from where it is, and kept under the name that was asked for") {
  const TestRepository repository;
  json scenario = repository.scenario();
  scenario["moved"] = {{"old/name", "org/name"}};
  const TestHub hub(scenario);
  const TemporaryDirectory cache;
  hub::Settings settings = settings_for(hub, cache.path());
  settings.token = "hf_secret";
  pull(settings, "old/name");
  check_whole(repository, cache.path(), "models--old--name");
  for (const json& request : hub.requests("head")) CHECK(request["token"] == "Bearer hf_secret");  // the same host
}

TEST_CASE("small files come from where the hub redirects to on its own host") {
  const TestRepository repository;
  json scenario = repository.scenario();
  scenario["resolve_cache"] = true;
  const TestHub hub(scenario);
  const TemporaryDirectory cache;
  hub::Settings settings = settings_for(hub, cache.path());
  settings.token = "hf_secret";
  pull(settings);
  check_whole(repository, cache.path());
  const auto heads = hub.requests("head");
  CHECK(heads.size() == 2 * (needed.size() - 2) + 2);  // the two shards have no second one
  for (const json& request : heads) CHECK(request["token"] == "Bearer hf_secret");
}

TEST_CASE("bytes other than announced are thrown away and named") {
  const TestRepository repository;
  const TestHub hub(repository.scenario(on_data({{"flip", 70000}}, 100)));
  const TemporaryDirectory cache;
  const std::string message = refusal(settings_for(hub, cache.path()));
  CHECK(contains(message, first_shard));
  CHECK(contains(message, sha256_hex(repository.text(first_shard)) + " was announced"));
  const fs::path root = cache / "models--org--name";
  CHECK(!fs::exists(root / "blobs" / sha256_hex(repository.text(first_shard))));
  CHECK(!fs::exists(root / "snapshots" / main_commit / first_shard));
  CHECK(!fs::exists(root / "refs"));
  CHECK(data_of(hub, first_shard).size() == 1);
}

TEST_CASE("small files are compared with git's hash") {
  const TestRepository repository;
  const TestHub hub(
      repository.scenario(json::array({{{"on", "resolve"}, {"path", "tokenizer.json"}, {"do", {{"flip", 3}}}}})));
  const TemporaryDirectory cache;
  CHECK(contains(refusal(settings_for(hub, cache.path())), "tokenizer.json: what came has the hash"));
}

TEST_CASE("a part that was damaged on disk is fetched again, once") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  const std::string hash = sha256_hex(repository.text(first_shard));
  cache.write("models--org--name/blobs/" + hash + ".incomplete", std::string(1000, 'x'));
  pull(settings_for(hub, cache.path()));
  check_whole(repository, cache.path());
  const auto requests = data_of(hub, first_shard);
  REQUIRE(requests.size() == 2);
  CHECK(requests[0]["range"] == "bytes=1000-");
  CHECK(requests[1]["range"] == "");
}

TEST_CASE("a part that is whole is only checked, and one that is too long is thrown away") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  const std::string first = repository.text(first_shard), second = repository.text(second_shard);
  cache.write("models--org--name/blobs/" + sha256_hex(first) + ".incomplete", first);
  cache.write("models--org--name/blobs/" + sha256_hex(second) + ".incomplete", second + "x");
  pull(settings_for(hub, cache.path()));
  check_whole(repository, cache.path());
  CHECK(data_of(hub, first_shard).empty());
  REQUIRE(data_of(hub, second_shard).size() == 1);
  CHECK(data_of(hub, second_shard)[0]["range"] == "");
}

TEST_CASE("a body longer or shorter than announced, or of another range, is refused") {
  const TestRepository repository;
  const auto answered = [&](const json& action, const json& before = json()) {
    json rules = json::array();
    if (!before.is_null()) rules.push_back({{"on", "data"}, {"path", first_shard}, {"times", 1}, {"do", before}});
    rules.push_back({{"on", "data"}, {"path", first_shard}, {"do", action}});
    const TestHub hub(repository.scenario(rules));
    const TemporaryDirectory cache;
    const std::string message = refusal(settings_for(hub, cache.path()));
    CHECK(!fs::exists(cache / "models--org--name/refs"));
    return message;
  };
  CHECK(contains(answered({{"more", 5}}), "sends 300005 bytes, but 300000 were announced"));
  CHECK(contains(answered({{"more", 5}, {"add", {{"Content-Length", nullptr}, {"Connection", "close"}}}}),
                 "sends more than the 300000 bytes"));
  const json cut = {{"cut", 1000}};
  CHECK(contains(answered({{"first", 0}}, cut), "answers \"bytes 0-299999/300000\" for the bytes from 1000 on"));
  CHECK(contains(answered({{"total", 299999}, {"last", 299998}}, cut), "of 300000"));
  CHECK(contains(answered({{"add", {{"Content-Range", "nonsense"}}}}, cut), "answers \"nonsense\""));
  CHECK(contains(answered({{"add", {{"Content-Encoding", "gzip"}}}}), "is encoded as gzip"));
  CHECK(contains(answered({{"cut", 0}}), "the connection fails"));
  CHECK(contains(answered({{"status", 416}}, cut), "is answered with 416"));
}

TEST_CASE("metadata that cannot be true is refused before a byte is fetched") {
  const TestRepository repository;
  const auto answered = [&](const json& headers) {
    const TestHub hub(
        repository.scenario(json::array({{{"on", "head"}, {"path", first_shard}, {"do", {{"add", headers}}}}})));
    const TemporaryDirectory cache;
    const std::string message = refusal(settings_for(hub, cache.path()));
    CHECK(hub.requests("data").empty());
    CHECK(fs::is_empty(cache.path()));
    return message;
  };
  CHECK(contains(answered({{"X-Linked-Etag", "\"../../../evil\""}}), "cannot name a file of the cache"));
  CHECK(contains(answered({{"X-Linked-Etag", nullptr}}), "cannot name a file"));
  CHECK(contains(answered({{"X-Linked-Size", "-5"}}), "which is no number of bytes"));
  CHECK(contains(answered({{"X-Linked-Size", nullptr}}), "which is no number of bytes"));
  CHECK(contains(answered({{"X-Linked-Size", "99999999999999999999999"}}), "which is no number of bytes"));
  CHECK(contains(answered({{"X-Repo-Commit", std::string(40, 'f')}}), "is of commit"));
}

TEST_CASE("redirects to other schemes, with passwords or without an end are refused") {
  const TestRepository repository;
  const auto answered = [&](const std::string& location) {
    const TestHub hub(
        repository.scenario(json::array({{{"on", "resolve"},
                                          {"path", first_shard},
                                          {"do", {{"status", 302}, {"headers", {{"Location", location}}}}}}})));
    const TemporaryDirectory cache;
    return refusal(settings_for(hub, cache.path()));
  };
  CHECK(contains(answered("file:///etc/passwd"), "redirects to \"file:///etc/passwd\""));
  CHECK(contains(answered("ftp://localhost/x"), "redirects to \"ftp://localhost/x\""));
  CHECK(contains(answered("http://user:word@localhost/x"), "which is no http:// or https:// address"));
  CHECK(contains(answered(fmt::format("/org/name/resolve/{}/{}", main_commit, first_shard)), "more than 5 redirects"));
}

TEST_CASE("a listing that is too large, or names files outside, is refused") {
  const TestRepository repository;
  const auto answered = [&](const json& action) {
    const TestHub hub(repository.scenario(json::array({{{"on", "list"}, {"do", action}}})));
    const TemporaryDirectory cache;
    return refusal(settings_for(hub, cache.path()));
  };
  CHECK(contains(answered({{"status", 200}, {"body", std::string((1 << 25) + 1, ' ')}}), "more than 33554432 bytes"));
  CHECK(
      contains(answered({{"siblings", json::array({{{"rfilename", "../evil.safetensors"}}})}}), "../evil.safetensors"));
  CHECK(contains(answered({{"listing", {{"sha", "main"}}}}), "expected 40 hexadecimal digits"));
  CHECK(contains(answered({{"status", 200}, {"headers", {{"X-Long", std::string(60000, 'x')}}}, {"body", "no"}}),
                 "is not valid JSON"));
}

TEST_CASE("a repository without weights, config or tokenizer is refused before a byte is fetched") {
  const TestRepository repository;
  const TemporaryDirectory cache;
  for (const char* file : {first_shard, "config.json", "tokenizer.json"}) {
    const TestRepository less;
    fs::remove(less.folder() / file);
    if (file == std::string(first_shard)) fs::remove(less.folder() / second_shard);
    const TestHub hub(less.scenario());
    CHECK(contains(refusal(settings_for(hub, cache.path())), file == std::string(first_shard) ? "no weights" : file));
    CHECK(hub.requests("resolve").empty());
  }
}

TEST_CASE("a repository that lacks a part of its weights is refused before any of them is fetched") {
  const TemporaryDirectory cache;
  {
    const TestRepository repository;  // the names of the others say so
    fs::remove(repository.folder() / second_shard);
    const TestHub hub(repository.scenario());
    CHECK(contains(refusal(settings_for(hub, cache.path())),
                   fmt::format("{} is one of its weights, but the repository does not have it", second_shard)));
    CHECK(hub.requests("resolve").empty());
  }
  const TestRepository repository;  // the index says so
  for (const char* shard : {first_shard, second_shard}) fs::remove(repository.folder() / shard);
  write_file(repository.folder() / "one.safetensors", "weights");
  write_file(repository.folder() / "model.safetensors.index.json",
             R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
  const TestHub hub(repository.scenario());
  CHECK(contains(refusal(settings_for(hub, cache.path())),
                 "two.safetensors is one of its weights according to model.safetensors.index.json, but the repository "
                 "does not have it: none were fetched"));
  for (const json& request : hub.requests("resolve")) CHECK(request["path"] != "one.safetensors");
  CHECK(hub.requests("data").empty());
  CHECK(!fs::exists(cache / "models--org--name/refs"));
}

TEST_CASE("a stale index beside whole weights is no obstacle: they are fetched and found") {
  const TestRepository repository;
  write_file(repository.folder() / "model.safetensors.index.json",
             R"({"weight_map": {"a": "model-00001-of-00009.safetensors"}})");
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  const hub::PullResult result = pull(settings_for(hub, cache.path()));
  CHECK(missing_from(result.snapshot).empty());
  CHECK(fs::exists(result.snapshot / second_shard));
}

TEST_CASE("too little room on the disk is said before the first byte") {
  const TestRepository repository;
  const json huge = {{"X-Linked-Size", "4000000000000000000"}};
  const TestHub hub(
      repository.scenario(json::array({{{"on", "head"}, {"path", first_shard}, {"do", {{"add", huge}}}}})));
  const TemporaryDirectory cache;
  const std::string message = failure(ErrorKind::io, [&] { pull(settings_for(hub, cache.path())); });
  CHECK(contains(message, "are missing, but the disk has"));
  CHECK(hub.requests("resolve").empty());
  CHECK(fs::is_empty(cache.path()));
}

TEST_CASE("sizes that add up to more than there can be are refused") {
  const TestRepository repository;
  const json huge = {{"X-Linked-Size", "4611686018427387904"}};
  const TestRepository more;
  for (int i = 3; i < 8; ++i)
    fs::copy_file(more.folder() / first_shard, more.folder() / fmt::format("extra-{}.safetensors", i));
  const TestHub hub(more.scenario(json::array({{{"on", "head"}, {"path", ".safetensors"}, {"do", {{"add", huge}}}}})));
  const TemporaryDirectory cache;
  CHECK(contains(refusal(settings_for(hub, cache.path())), "more bytes than there are"));
}

TEST_CASE("a hub that is not there is named") {
  const TemporaryDirectory cache;
  hub::Settings settings;
  settings.cache = cache.path();
  {
    const TestRepository repository;
    const TestHub hub(repository.scenario());
    settings.endpoint = hub.endpoint();
  }  // nobody listens there any more
  CHECK(contains(refusal(settings), settings.endpoint + " cannot be reached: "));
  settings.offline = "HF_HUB_OFFLINE";
  CHECK(contains(refusal(settings), "HF_HUB_OFFLINE is set"));
}

TEST_CASE("a transfer without a byte for the time that is allowed counts as cut") {
  const TestRepository repository;
  const TestHub hub(repository.scenario(on_data({{"hold", 50000}})));
  const TemporaryDirectory cache;
  hub::Settings settings = settings_for(hub, cache.path());
  settings.stall_timeout = std::chrono::seconds(1);
  pull(settings);
  check_whole(repository, cache.path());
  const auto requests = data_of(hub, first_shard);
  REQUIRE(requests.size() == 2);
  CHECK(requests[1]["range"] == "bytes=50000-");
}

TEST_CASE("files come several at once, one connection a file") {
  const TestRepository repository;
  json rules = json::array();
  for (const char* shard : {first_shard, second_shard})
    rules.push_back({{"on", "data"}, {"path", shard}, {"do", {{"hold", 1000}}}});
  TestHub hub(repository.scenario(rules));
  const TemporaryDirectory cache;
  hub::Settings settings = settings_for(hub, cache.path());
  JoinedThread releases([&] {
    hub.wait_until_held();
    hub.wait_until_held();  // the second is under way although the first has not ended
    hub.release();
  });
  pull(settings);
  check_whole(repository, cache.path());
  CHECK(hub.requests("data").size() == 2);
}

TEST_CASE("a second process waits for the file that the first one fetches") {
  const TestRepository repository;
  TestHub hub(repository.scenario(on_data({{"hold", 1000}}, 100)));
  const TemporaryDirectory cache;
  const hub::Settings settings = settings_for(hub, cache.path());
  // A lock belongs to an opened file: two pulls exclude each other in one process as they do in two.
  JoinedThread first([&] { pull(settings); });
  hub.wait_until_held();
  std::vector<std::string> waited;
  hub::PullEvents events;
  events.waiting = [&](const hub::FileMetadata& file) {
    waited.push_back(file.path);
    if (file.path == first_shard) hub.release();
  };
  const hub::PullResult result = pull(settings, "org/name", events);
  first.join();
  CHECK(std::count(waited.begin(), waited.end(), first_shard) == 1);
  CHECK(data_of(hub, first_shard).size() == 1);
  CHECK(data_of(hub, second_shard).size() == 1);
  CHECK(result.progress.kept == result.progress.bytes);
  check_whole(repository, cache.path());
}

TEST_CASE("two files with the same content are one blob, fetched once") {
  const TestRepository repository;
  fs::copy_file(repository.folder() / first_shard, repository.folder() / "twin.safetensors");
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  const hub::PullResult result = pull(settings_for(hub, cache.path()));
  check_whole(repository, cache.path());
  CHECK(hub.requests("data").size() == 2);
  CHECK(result.progress.kept == result.progress.bytes);
  CHECK(fs::read_symlink(result.snapshot / "twin.safetensors") == fs::read_symlink(result.snapshot / first_shard));
}

TEST_CASE("an old revision stays in use until the new one is whole") {
  const TestRepository repository;
  const TemporaryDirectory cache;
  const std::string old(40, 'a');
  cache.write("models--org--name/refs/main", old);
  cache.write("models--org--name/snapshots/" + old + "/config.json", "{}");
  {
    const TestHub hub(repository.scenario(on_data({{"status", 403}}, 100)));
    CHECK(contains(refusal(settings_for(hub, cache.path())), "is answered with 403"));
    CHECK(file_text(cache / "models--org--name/refs/main") == old);
  }
  const TestHub hub(repository.scenario());
  pull(settings_for(hub, cache.path()));
  CHECK(file_text(cache / "models--org--name/refs/main") == main_commit);
  CHECK(fs::exists(cache / "models--org--name/snapshots" / old));
}

TEST_CASE("events come to the thread that asked") {
  const TestRepository repository;
  const TestHub hub(repository.scenario());
  const TemporaryDirectory cache;
  const auto self = std::this_thread::get_id();
  std::vector<std::string> complete;
  std::uint64_t kept = 0;
  hub::PullEvents events;
  events.complete = [&](const hub::PlannedFile& file) {
    CHECK(std::this_thread::get_id() == self);
    complete.push_back(file.file.path);
  };
  events.progress = [&](const hub::PullProgress& progress) {
    CHECK(std::this_thread::get_id() == self);
    CHECK(progress.kept >= kept);
    kept = progress.kept;
  };
  const hub::PullResult result = pull(settings_for(hub, cache.path()), "org/name", events);
  std::sort(complete.begin(), complete.end());
  CHECK(complete == needed);
  CHECK(kept == result.progress.bytes);
}
