// What is believed of a hub's answers, without a hub.
#include "hub/protocol.h"

#include <doctest/doctest.h>

#include <string>

#include "hub/pull.h"
#include "hub/url.h"
#include "support/failure.h"

using namespace tqkv;
using namespace tqkv::hub;
using namespace tqkv::test;

namespace {

constexpr const char* commit = "0123456789abcdef0123456789abcdef01234567";

std::string listing(const std::string& files) {
  return std::string(R"({"sha": ")") + commit + R"(", "siblings": [)" + files + "]}";
}

}  // namespace

TEST_CASE("a listing gives the commit and every file with its size and hash") {
  const std::string hash(64, 'a');
  const Listing parsed =
      parse_listing(listing(R"({"rfilename": "config.json", "size": 12, "blobId": ")" + std::string(commit) + R"("},
                 {"rfilename": "sub/x.bin", "size": 130, "blobId": "x", "lfs": {"sha256": ")" +
                            hash + R"(", "size": 5000000000}},
                 {"rfilename": "bare"})"),
                    "hub");
  CHECK(parsed.commit == commit);
  REQUIRE(parsed.files.size() == 3);
  CHECK(parsed.files[0].path == "config.json");
  CHECK(parsed.files[0].bytes == 12);
  CHECK(parsed.files[0].digest == commit);
  CHECK(parsed.files[1].bytes == 5000000000u);
  CHECK(parsed.files[1].digest == hash);
  CHECK(!parsed.files[2].bytes);
  CHECK(parsed.files[2].digest.empty());
}

TEST_CASE("a listing with a path that leads out of the repository is refused as a whole") {
  for (const char* path : {"../x.safetensors", "/etc/passwd", "a/../../b", "", ".", "..", "a//b", "a/", "a\\\\b",
                           "x\\u0000y", "line\\nbreak"}) {
    CAPTURE(path);
    const std::string message = failure(
        ErrorKind::hub, [&] { parse_listing(listing(std::string(R"({"rfilename": ")") + path + "\"}"), "hub"); });
    CHECK(contains(message, "no path inside a repository"));
  }
}

TEST_CASE("what is no listing is refused") {
  const auto refused = [](const std::string& text) {
    return failure(ErrorKind::hub, [&] { parse_listing(text, "hub"); });
  };
  CHECK(contains(refused("<html>"), "is not valid JSON"));
  CHECK(contains(refused("[]"), "expected an object"));
  CHECK(contains(refused("{}"), "expected 40 hexadecimal digits"));
  CHECK(contains(refused(R"({"sha": "../../../../../../../../../../../../../", "siblings": []})"), "40 hexadecimal"));
  CHECK(contains(refused(std::string(R"({"sha": ")") + commit + "\"}"), "no list of files"));
  CHECK(contains(refused(listing("7")), "lists number"));
}

TEST_CASE("an etag loses its quotes, and must be able to name a file") {
  CHECK(parse_etag("\"abc\"") == "abc");
  CHECK(parse_etag("W/\"abc-1\"") == "abc-1");
  CHECK(parse_etag("abc") == "abc");
  for (const char* etag : {"", "\"\"", "\"../../x\"", "\"a/b\"", "\".hidden\"", "\"a b\"", "\"", "\"abc.incomplete\"",
                           "\"abc.lock\"", "W/"})
    CHECK_MESSAGE(!parse_etag(etag), etag);
  CHECK(!parse_etag(std::string(200, 'a')));
}

TEST_CASE("a content range is taken apart, or is none") {
  const auto range = parse_content_range("bytes 5-9/10");
  REQUIRE(range);
  CHECK(range->first == 5);
  CHECK(range->last == 9);
  CHECK(range->total == 10);
  CHECK(!parse_content_range("bytes 5-9/*")->total);
  for (const char* text : {"", "bytes", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "bytes -1-9/10", "items 5-9/10",
                           "bytes 5-9/", "bytes 5-99999999999999999999/*", "bytes 5 - 9/10"})
    CHECK_MESSAGE(!parse_content_range(text), text);
}

TEST_CASE("two addresses are of one host when scheme, name and port are the same") {
  CHECK(origin_of("https://Hub.example/x") == "https://hub.example:443");
  CHECK(origin_of("https://hub.example:443/y") == origin_of("https://hub.example"));
  CHECK(origin_of("http://hub.example") != origin_of("https://hub.example"));
  CHECK(origin_of("https://hub.example:8443") != origin_of("https://hub.example"));
  for (const char* url : {"", "hub.example@evil", "ftp://hub.example/x", "file:///etc/passwd", "https://", "gopher://x",
                          "https://user:secret@hub.example/", "https://user@hub.example/"})
    CHECK_MESSAGE(!origin_of(url), url);
}

TEST_CASE("a redirect leads to http and https alone") {
  CHECK(join_url("https://hub.example/a/b", "/c?d=e") == "https://hub.example/c?d=e");
  CHECK(join_url("https://hub.example/a/b", "c") == "https://hub.example/a/c");
  CHECK(join_url("https://hub.example/a", "https://data.example/x") == "https://data.example/x");
  CHECK(join_url("https://hub.example/a", "//data.example/x") == "https://data.example/x");
  for (const char* location : {"file:///etc/passwd", "ftp://x/y", "https://a:b@c/", "gopher://x"})
    CHECK_MESSAGE(!join_url("https://hub.example/a", location), location);
}

TEST_CASE("names in addresses are encoded") {
  CHECK(encode_segment("refs/pr/1") == "refs%2Fpr%2F1");
  CHECK(encode_path("a b/c#d?.json") == "a%20b/c%23d%3F.json");
  CHECK(encode_path("model-00001-of-00004.safetensors") == "model-00001-of-00004.safetensors");
}

TEST_CASE("only what a checkpoint needs is fetched") {
  for (const char* file : {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                           "chat_template.jinja", "model.safetensors.index.json", "model.safetensors",
                           "model-00001-of-00004.safetensors", "model.safetensors-00001-of-00004.safetensors"})
    CHECK_MESSAGE(is_needed(file), file);
  for (const char* file : {"README.md", "vocab.json", ".gitattributes", "preprocessor_config.json", "onnx/model.onnx",
                           "sub/model.safetensors", "pytorch_model.bin", "video_preprocessor_config.json"})
    CHECK_MESSAGE(!is_needed(file), file);
}
