#include <doctest/doctest.h>
#include <string>

#include "loaders/hub.h"
#include "support/checkpoint_writer.h"
#include "support/environment.h"
#include "support/failure.h"
#include "support/places.h"
#include "tqkv/checkpoint.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;

namespace {

std::string refusal(std::string_view model) {
  return failure(ErrorKind::checkpoint, [&] { locate_model(model); });
}

constexpr const char* commit = "1e20fd8d42056f870933bf98ca6211024744f7ec";

/// A repository in a hub cache: refs/main and the folder of its snapshot.
fs::path make_repository(const fs::path& cache, const std::string& folder) {
  const fs::path snapshot = cache / folder / "snapshots" / commit;
  fs::create_directories(snapshot);
  fs::create_directories(cache / folder / "refs");
  write_file(cache / folder / "refs/main", commit);
  return snapshot;
}

}  // namespace

TEST_CASE("pocket is the bundled checkpoint, from any working directory") {
  const CleanEnvironment clean;
  const TemporaryDirectory directory;
  const WorkingDirectory there(directory.path());
  CHECK(fs::equivalent(locate_model("pocket"), fs::path(test::source_dir()) / "models/pocket"));
  // A directory of that name is meant only when it is written as a path.
  fs::create_directories("pocket");
  CHECK(fs::equivalent(locate_model("pocket"), fs::path(test::source_dir()) / "models/pocket"));
  CHECK(fs::equivalent(locate_model("./pocket"), directory / "pocket"));
}

TEST_CASE("TQKV_MODELS_DIR says where pocket lies, and when it does not lie there the place is named") {
  const CleanEnvironment clean;
  const TemporaryDirectory directory;
  const Environment models("TQKV_MODELS_DIR", directory.path().c_str());
  CHECK(contains(refusal("pocket"), "searched " + (directory / "pocket").string()));
  fs::create_directories(directory / "pocket");
  CHECK(locate_model("pocket") == directory / "pocket");
}

TEST_CASE("a directory is taken as it is, also when it looks like a name of the hub") {
  const CleanEnvironment clean;
  const TemporaryDirectory directory;
  const Environment cache("HF_HUB_CACHE", (directory / "hub").c_str());
  make_repository(directory / "hub", "models--org--name");
  const WorkingDirectory there(directory.path());
  fs::create_directories("org/name");
  fs::create_directories("with spaces");
  CHECK(locate_model("org/name") == "org/name");
  CHECK(locate_model("with spaces") == "with spaces");
  CHECK(locate_model(directory.path().string()) == directory.path());
}

TEST_CASE("org/name is the snapshot of the main branch in the hub cache, wherever that is") {
  const CleanEnvironment clean;
  const TemporaryDirectory directory;
  const fs::path root = directory.path();
  const auto found_in = [&](const fs::path& cache) {
    const fs::path snapshot = make_repository(cache, "models--org--Some.Model_1-4bit");
    const bool found = locate_model("org/Some.Model_1-4bit") == snapshot;
    fs::remove_all(cache);
    return found;
  };
  const Environment home("HOME", (root / "home").c_str());
  CHECK(found_in(root / "home/.cache/huggingface/hub"));
  const Environment xdg("XDG_CACHE_HOME", (root / "xdg").c_str());
  CHECK(found_in(root / "xdg/huggingface/hub"));
  {
    const Environment hf("HF_HOME", "~/hf");
    CHECK(found_in(root / "home/hf/hub"));
  }
  const Environment hf("HF_HOME", (root / "hf").c_str());
  CHECK(found_in(root / "hf/hub"));
  const Environment older("HUGGINGFACE_HUB_CACHE", (root / "older").c_str());
  CHECK(found_in(root / "older"));
  const Environment newer("HF_HUB_CACHE", (root / "newer").c_str());
  CHECK(found_in(root / "newer"));
}

TEST_CASE("a model that is not in the cache: the place, the size that is known and the command that fetches it") {
  const CleanEnvironment clean;
  const TemporaryDirectory directory;
  const Environment cache("HF_HUB_CACHE", directory.path().c_str());
  const auto message = refusal("mlx-community/Qwen3.5-35B-A3B-4bit");
  CHECK(contains(message, (directory / "models--mlx-community--Qwen3.5-35B-A3B-4bit").string()));
  CHECK(contains(message, "20.4 GB needed"));
  CHECK(contains(message, "tqkv pull mlx-community/Qwen3.5-35B-A3B-4bit"));
  const auto other = refusal("org/other");
  CHECK(contains(other, "tqkv pull org/other"));
  CHECK(other.find(" GB ") == std::string::npos);  // with spaces: the folder has a random name
}

TEST_CASE("a repository in the cache that is incomplete or broken says so") {
  const CleanEnvironment clean;
  const TemporaryDirectory directory;
  const Environment cache("HF_HUB_CACHE", directory.path().c_str());
  const fs::path repository = directory / "models--org--name";
  const fs::path snapshot = make_repository(directory.path(), "models--org--name");
  write_file(repository / "refs/main", std::string(commit) + "\n");
  CHECK(locate_model("org/name") == snapshot);
  for (const char* escape : {"../../..", "..", "a/b", "", "/etc"}) {
    write_file(repository / "refs/main", escape);
    CHECK(contains(refusal("org/name"), "expected a commit"));
  }
  write_file(repository / "refs/main", "0000");
  CHECK(contains(refusal("org/name"), "snapshots/0000 is not there: the download is incomplete"));
  fs::remove(repository / "refs/main");
  CHECK(contains(refusal("org/name"), "the main branch was not downloaded"));
}

TEST_CASE("what is no model is refused with what a model is") {
  const CleanEnvironment clean;
  const TemporaryDirectory directory;
  const WorkingDirectory there(directory.path());
  write_file("file", "");
  CHECK(contains(refusal(""),
                 "give a directory, org/name[@revision] on the Hugging Face hub, or pocket, the bundled model"));
  CHECK(contains(refusal("nowhere"), "there is no such directory"));
  CHECK(contains(refusal("/nowhere/at/all"), "there is no such directory"));
  CHECK(contains(refusal("../x/y"), "there is no such directory"));
  CHECK(contains(refusal("org/.."), "there is no such directory"));
  CHECK(contains(refusal("or g/name"), "there is no such directory"));
  CHECK(contains(refusal("file"), "is a file, expected the directory of a checkpoint"));
  CHECK(contains(refusal(std::string_view("a\0b", 3)), "zero byte"));
  CHECK(contains(refusal("line\nbreak"), "line\\nbreak: there is no such directory"));
}

TEST_CASE("org/name@revision is the snapshot of that branch, tag or commit") {
  const CleanEnvironment clean;
  const TemporaryDirectory directory;
  const Environment cache("HF_HUB_CACHE", directory.path().c_str());
  const fs::path repository = directory / "models--org--name";
  const fs::path snapshot = make_repository(directory.path(), "models--org--name");
  fs::create_directories(repository / "refs/refs/pr");
  write_file(repository / "refs/refs/pr/1", commit);
  write_file(repository / "refs/v1.0", commit);
  CHECK(locate_model("org/name@v1.0") == snapshot);
  CHECK(locate_model("org/name@refs/pr/1") == snapshot);
  fs::remove_all(repository / "refs");
  CHECK(locate_model("org/name@1e20fd8d42056f870933bf98ca6211024744f7ec") == snapshot);
  CHECK(contains(refusal("org/name@v2"), "refs/v2 is not there: the revision was not downloaded"));
  CHECK(contains(refusal("org/name@v2"), "tqkv pull org/name@v2"));
  CHECK(contains(refusal("org/name@" + std::string(40, 'a')), "aaaa is not there"));
}

TEST_CASE("a snapshot lacks what a checkpoint has and it does not") {
  const TemporaryDirectory directory;
  CHECK(missing_from(directory.path()) == "config.json");
  directory.write("config.json", "{}");
  CHECK(missing_from(directory.path()) == "tokenizer.json");
  directory.write("tokenizer.json", "{}");
  CHECK(contains(missing_from(directory.path()), "model.safetensors"));
  directory.write("model.safetensors", "");
  CHECK(missing_from(directory.path()).empty());
  fs::remove(directory / "model.safetensors");
  directory.write("model-00001-of-00002.safetensors", "");
  CHECK(missing_from(directory.path()) == "model-00002-of-00002.safetensors");
  directory.write("model-00002-of-00002.safetensors", "");
  CHECK(missing_from(directory.path()).empty());
  for (const char* shard : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"})
    fs::remove(directory / shard);
  directory.write("model.safetensors.index.json",
                  R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
  directory.write("one.safetensors", "");
  CHECK(missing_from(directory.path()) == "two.safetensors");
  fs::create_symlink("nowhere", directory / "two.safetensors");  // its blob was never fetched
  CHECK(missing_from(directory.path()) == "two.safetensors");
}

TEST_CASE("the address of a model's page, as it is copied from a browser, is its name") {
  for (const char* page :
       {"https://huggingface.co/org/name", "https://huggingface.co/org/name/", "http://huggingface.co/org/name",
        "huggingface.co/org/name", "https://hf.co/org/name", "https://www.huggingface.co/org/name",
        "https://huggingface.co/org/name/tree/main", "https://huggingface.co/org/name/tree/main/",
        "https://huggingface.co/org/name?library=mlx", "https://huggingface.co/org/name#usage"})
    CHECK_MESSAGE(parse_hub_name(page).value_or(HubName{}).text() == "org/name", page);
  const auto text = [](const char* page) { return parse_hub_name(page).value_or(HubName{}).text(); };
  CHECK(text("https://huggingface.co/org/name/tree/v1.0") == "org/name@v1.0");
  CHECK(text("https://huggingface.co/org/name/tree/v1.0/folder") == "org/name@v1.0");
  CHECK(text("https://huggingface.co/org/name/blob/main/config.json") == "org/name");
  CHECK(text("https://huggingface.co/org/name/resolve/v2/config.json?download=true") == "org/name@v2");
  CHECK(text("https://huggingface.co/org/name/tree/refs%2Fpr%2F1") == "org/name@refs/pr/1");
  CHECK(text("https://huggingface.co/org/name@v1") == "org/name@v1");
  for (const char* page : {"https://huggingface.co", "https://huggingface.co/", "https://huggingface.co/org",
                           "https://huggingface.co/datasets/org/name", "https://example.org/org/name",
                           "https://huggingface.co.example.org/org/name", "https://huggingface.co/org/name/tree/..",
                           "https://huggingface.co/../name", "https://huggingface.co/org/name/discussions/1",
                           "ftp://huggingface.co/org/name"})
    CHECK_MESSAGE(!parse_hub_name(page), page);
}

TEST_CASE("offline mode is named where it keeps a model from being fetched") {
  const TemporaryDirectory cache;
  const auto refusal = [&] {
    return failure(ErrorKind::checkpoint, [&] { find_in_hub_cache(*parse_hub_name("org/name"), cache.path()); });
  };
  const Environment none("HF_HUB_OFFLINE", ""), neither("TRANSFORMERS_OFFLINE", "");
  CHECK(contains(refusal(), "; fetch it with: tqkv pull org/name"));
  {
    const Environment offline("TRANSFORMERS_OFFLINE", "yes");
    CHECK(contains(refusal(), "TRANSFORMERS_OFFLINE is set: unset it, then fetch it with: tqkv pull org/name"));
  }
  const Environment offline("HF_HUB_OFFLINE", "1");
  CHECK(contains(refusal(), "HF_HUB_OFFLINE is set: unset it, then fetch it"));
}

TEST_CASE("names of hub repositories") {
  CHECK(parse_hub_name("mlx-community/Qwen3.5-35B-A3B-4bit")->id == "mlx-community/Qwen3.5-35B-A3B-4bit");
  CHECK(parse_hub_name("a/b")->revision == "main");
  CHECK(parse_hub_name("a/b")->text() == "a/b");
  CHECK(parse_hub_name("a/b@refs/pr/1")->revision == "refs/pr/1");
  CHECK(parse_hub_name("a/b@v1.0")->text() == "a/b@v1.0");
  for (const char* name : {"",       "a",      "a/",       "/a",     "a/b/c",  "../b",    "a/..",     "a--b/c",
                           "a/b--c", "-a/b",   ".a/b",     "a b/c",  "a/b\n",  "a/b@",    "a/b@../x", "a/b@x/../y",
                           "a/b@/x", "a/b@x/", "a/b@x//y", "a/b@.x", "a/b@-x", "a/b@x y", "a@b/c",    "a/b@x@y"})
    CHECK_MESSAGE(!parse_hub_name(name), name);
}
