#include "hub/digest.h"

#include <doctest/doctest.h>

#include <span>
#include <string_view>

#include "hub/verify.h"
#include "loaders/published.h"
#include "support/places.h"

using namespace tqkv;
using namespace tqkv::hub;

namespace {

std::string digest(Digest digest, std::string_view text) {
  digest.add(std::as_bytes(std::span(text)));
  return digest.hex();
}

}  // namespace

TEST_CASE("sha256 is that of FIPS 180-4, in any pieces") {
  CHECK(digest(Digest::sha256(), "") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest(Digest::sha256(), "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Digest pieces = Digest::sha256();
  for (const std::string_view piece : {"a", "", "bc"}) pieces.add(std::as_bytes(std::span(piece)));
  CHECK(pieces.hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("small files have the hash that git gives their blob") {
  // printf 'what is up, doc?' | git hash-object --stdin
  constexpr std::string_view text = "what is up, doc?";
  CHECK(digest(Digest::git_blob(text.size()), text) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37");
  CHECK(digest(Digest::git_blob(0), "") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

TEST_CASE("an etag that is no hash is not compared with one") {
  CHECK(digest(Digest::like("5f3a-1", 3), "abc").empty());
  CHECK(!is_digest("5f3a-1"));
  CHECK(is_digest("bd9dbf5aae1a3862dd1526723246b20206e5fc37"));
  CHECK(!is_digest("BD9DBF5AAE1A3862DD1526723246B20206E5FC37"));
}

TEST_CASE("the recorded list of the first model is that of its published files") {
  const PublishedCheckpoint* published = published_checkpoint("mlx-community/Qwen3.5-35B-A3B-4bit");
  REQUIRE(published != nullptr);
  CHECK(published->files.size() == 10);
  std::uint64_t shards = 0;
  for (const PublishedFile& file : published->files) {
    CHECK(is_digest(file.sha256));
    if (file.path.ends_with(".safetensors")) shards += file.bytes;
  }
  CHECK(shards == 20391679439u);
  CHECK(published->bytes() == 20411897485u);
  // One of the files is here.
  CHECK(published_with_config(sha256_of(test::source_dir() + "/models/configs/qwen3.5-35b-a3b-4bit.json")) ==
        published);
  CHECK(published_checkpoint("mlx-community/other") == nullptr);
}
