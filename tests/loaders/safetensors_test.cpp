#include "loaders/safetensors.h"

#include <doctest/doctest.h>

#include <string>

#include "support/failure.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

std::string length_bytes(std::uint64_t value) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
  return text;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string file_of(const std::string& header, std::size_t data) {
  return length_bytes(header.size()) + header + std::string(data, 'x');
}

std::vector<SafetensorsEntry> parse(const std::string& file) {
  return parse_safetensors(bytes_of(file), "f");
}

std::string refusal(const std::string& header, std::size_t data) {
  const std::string file = file_of(header, data);
  return failure(ErrorKind::checkpoint, [&] { parse(file); });
}

std::string one(const char* dtype, const char* shape, const char* offsets) {
  return std::string(R"({"t":{"dtype":")") + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

}  // namespace

TEST_CASE("entries come in the order of their data, with offsets from the start of the file") {
  const std::string header =
      R"({"__metadata__":{"format":"mlx"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
      R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"none":{"dtype":"U8","shape":[0,7],"data_offsets":[9,9]}})";
  const auto entries = parse(file_of(header, 16));
  REQUIRE(entries.size() == 3);
  CHECK(entries[0].name == "a");
  CHECK(entries[0].dtype == DType::f32);
  CHECK(entries[0].shape.empty());
  CHECK(entries[0].begin == 8 + header.size());
  CHECK(entries[1].name == "b");
  CHECK(entries[1].shape == std::vector<std::int64_t>{2, 3});
  CHECK(entries[1].end == 8 + header.size() + 16);
  CHECK(entries[2].name == "none");
}

TEST_CASE("a header that was written is read back, with its data at a multiple of 8") {
  for (const char* name : {"a", "ab", "a longer name"}) {
    const NamedShape tensors[] = {{name, DType::f32, {2, 3}}, {"empty", DType::u8, {0}}, {"c", DType::bf16, {5}}};
    const std::string header = safetensors_header(tensors, {{"tool", "a \"test\""}});
    CHECK(header.size() % 8 == 0);
    const auto entries = parse(header + std::string(34, 'x'));
    REQUIRE(entries.size() == 3);
    CHECK(entries[0].name == name);
    CHECK(entries[0].begin == header.size());
    CHECK(entries[0].shape == std::vector<std::int64_t>{2, 3});
    CHECK(entries[2].dtype == DType::bf16);
    CHECK(entries[2].end == header.size() + 34);
  }
}

TEST_CASE("every dtype of the format has its name and size") {
  const std::pair<const char*, std::size_t> known[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"U16", 2}, {"I16", 2},
                                                       {"U32", 4},  {"I32", 4}, {"U64", 8}, {"I64", 8}, {"F16", 2},
                                                       {"BF16", 2}, {"F32", 4}, {"F64", 8}};
  for (const auto& [text, size] : known) {
    const auto entries = parse(file_of(one(text, "[1]", ("[0," + std::to_string(size) + "]").c_str()), size));
    REQUIRE(entries.size() == 1);
    CHECK(name(entries[0].dtype) == text);
    CHECK(size_of(entries[0].dtype) == size);
  }
  CHECK(
      contains(refusal(one("F8_E4M3", "[1]", "[0,1]"), 1), "tensor t has the dtype F8_E4M3, which tqkv does not read"));
}

TEST_CASE("a header length beyond the file is refused with both numbers") {
  for (const std::uint64_t length : {std::uint64_t{100}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    const std::string file = length_bytes(length) + "{}";
    const auto message = failure(ErrorKind::checkpoint, [&] { parse(file); });
    CHECK(contains(message, "f: the header is said to have " + std::to_string(length) + " bytes but the file has 10"));
  }
  CHECK(contains(failure(ErrorKind::checkpoint, [] { parse("1234567"); }), "f: has 7 bytes"));
  CHECK(contains(failure(ErrorKind::checkpoint, [] { parse(""); }), "the download is incomplete"));
}

TEST_CASE("a file that git left as a pointer is recognised") {
  CHECK(contains(
      failure(ErrorKind::checkpoint, [] { parse("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"); }),
      "is a Git LFS pointer"));
}

TEST_CASE("data that ends beyond the file means an incomplete download") {
  const std::string header = one("U8", "[100]", "[0,100]");
  CHECK(contains(refusal(header, 60), "f: tensor t ends at byte " + std::to_string(8 + header.size() + 100) +
                                          " but the file has " + std::to_string(8 + header.size() + 60) +
                                          ": the download is incomplete"));
  CHECK(parse(file_of(header, 100)).size() == 1);
}

TEST_CASE("data that overlaps is refused, gaps are not") {
  const auto two = [](const char* first, const char* second) {
    return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + first +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  CHECK(contains(refusal(two("[0,4]", "[3,7]"), 8), "the data of tensors a and b overlap at byte"));
  CHECK(contains(refusal(two("[0,4]", "[0,4]"), 8), "overlap"));
  CHECK(parse(file_of(two("[5,9]", "[0,4]"), 9)).size() == 2);
}

TEST_CASE("byte counts that do not follow from dtype and shape are refused") {
  CHECK(contains(refusal(one("F32", "[2,3]", "[0,20]"), 24),
                 "tensor t has 20 bytes of data, but F32 of shape [2,3] takes 24"));
  CHECK(contains(refusal(one("U8", "[4]", "[4,0]"), 4), "go backwards, from 4 to 0"));
}

TEST_CASE("shapes whose product overflows are refused") {
  CHECK(contains(refusal(one("U8", "[4294967296,4294967296]", "[0,0]"), 0), "is larger than any file"));
  CHECK(contains(refusal(one("F64", "[281474976710656,65536]", "[0,0]"), 0), "is larger than any file"));
  CHECK(contains(refusal(one("U8", "[18446744073709551615]", "[0,1]"), 1), "is larger than any file"));
  CHECK(contains(refusal(one("U8", "[0,18446744073709551615]", "[0,0]"), 1), "is larger than any file"));
  CHECK(contains(refusal(one("U8", "[18446744073709551616]", "[0,1]"), 1), "an entry that is not a size"));
}

TEST_CASE("offsets near the end of 64 bits do not wrap") {
  CHECK(contains(refusal(one("U8", "[1]", "[18446744073709551614,18446744073709551615]"), 8),
                 "the download is incomplete"));
  CHECK(contains(refusal(one("U8", "[1]", "[18446744073709551615,0]"), 8), "go backwards"));
}

TEST_CASE("headers that are no description of tensors are refused") {
  CHECK(contains(refusal("{", 0), "f: the header: is not valid JSON"));
  CHECK(contains(refusal("[]", 0), "expected an object"));
  CHECK(contains(refusal("", 0), "is not valid JSON"));
  CHECK(contains(refusal("{\"\xff\":1}", 0), "is not valid JSON"));
  CHECK(contains(refusal(R"({"t":3})", 0), "tensor t is described by number"));
  CHECK(contains(refusal(R"({"t":{"dtype":"U8","shape":[1]}})", 1), "must have dtype, shape and data_offsets"));
  CHECK(contains(refusal(one("U8", "[-1]", "[0,1]"), 1), "an entry that is not a size"));
  CHECK(contains(refusal(one("U8", "[1.0]", "[0,1]"), 1), "an entry that is not a size"));
  CHECK(contains(refusal(one("U8", "1", "[0,1]"), 1), "shape is not a list"));
  CHECK(contains(refusal(one("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1), "at most 8 sizes"));
  CHECK(contains(refusal(one("U8", "[1]", "[0]"), 1), "data_offsets is not a pair"));
  CHECK(contains(refusal(one("U8", "[1]", "[0,\"1\"]"), 1), "data_offsets is not a pair"));
  CHECK(contains(refusal(one("U8", "[[[[1]]]]", "[0,1]"), 1), "nested deeper than 4 levels"));
}

TEST_CASE("a tensor that is named twice is refused") {
  CHECK(contains(
      refusal(
          R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
          2),
      "names \"t\" twice"));
}

TEST_CASE("control characters of a name do not reach a message") {
  CHECK(contains(refusal(R"({"a\nb\u001b[1m":1})", 0), "tensor a\\nb\\x1b[1m is described"));
}
