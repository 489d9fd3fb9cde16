#include "server/page/page.h"

#include <doctest/doctest.h>
#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "hub/digest.h"
#include "server/protocol/request.h"
#include "support/places.h"

using namespace tqkv::server;

namespace {

std::string between(std::string_view text, std::string_view open, std::string_view close) {
  const std::size_t from = text.find(open);
  REQUIRE(from != std::string_view::npos);
  const std::size_t to = text.find(close, from + open.size());
  REQUIRE(to != std::string_view::npos);
  return std::string(text.substr(from + open.size(), to - from - open.size()));
}

std::size_t count(std::string_view text, std::string_view what) {
  std::size_t found = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

/// The check sum of gzip (RFC 1952, section 8), bit by bit.
std::uint32_t crc32(std::string_view text) {
  std::uint32_t sum = ~0U;
  for (const char byte : text) {
    sum ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ ((sum & 1) != 0U ? 0xEDB88320U : 0U);
  }
  return ~sum;
}

std::uint32_t word_at(std::string_view bytes, std::size_t at) {
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < 4; ++i) word |= std::uint32_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  return word;
}

/// The hash of a directive of the policy, in hexadecimal digits.
std::string hash_of(std::string_view directive) {
  const std::string digits = between(page_policy(), std::string(directive) + " 'sha256-", "'");
  REQUIRE(digits.size() == 44);
  std::array<unsigned char, 33> bytes{};
  REQUIRE(EVP_DecodeBlock(bytes.data(), reinterpret_cast<const unsigned char*>(digits.data()), 44) == 33);
  std::string hex;
  for (std::size_t i = 0; i < 32; ++i)
    for (const int part : {bytes[i] >> 4, bytes[i] & 15}) hex += "0123456789abcdef"[static_cast<std::size_t>(part)];
  return hex;
}

std::string sha256(std::string_view text) {
  tqkv::hub::Digest digest = tqkv::hub::Digest::sha256();
  digest.add(std::as_bytes(std::span(text)));
  return digest.hex();
}

}  // namespace

TEST_CASE("The page is one file below 100 kB, and its gzip is the same text") {
  const std::string_view html = page_html(), gzip = page_gzip();
  CHECK(html.starts_with("<!doctype html>"));
  CHECK(html.ends_with("</html>\n"));
  CHECK(html.size() < 100'000);
  REQUIRE(gzip.size() > 18);
  CHECK(gzip.size() < html.size() / 2);
  CHECK(gzip.starts_with("\x1f\x8b\x08"));
  CHECK(gzip.substr(3, 5) == std::string_view("\0\0\0\0\0", 5));  // neither name nor time
  CHECK(word_at(gzip, gzip.size() - 8) == crc32(html));
  CHECK(word_at(gzip, gzip.size() - 4) == html.size());
}

TEST_CASE("The policy of the page lets its own script and style run, and nothing else") {
  CHECK(hash_of("script-src") == sha256(between(page_html(), "<script>", "</script>")));
  CHECK(hash_of("style-src") == sha256(between(page_html(), "<style>", "</style>")));
  CHECK(count(page_html(), "<script") == 1);
  CHECK(count(page_html(), "<style") == 1);
  const std::string& policy = page_policy();
  CHECK(policy.starts_with("default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src "));
  CHECK(policy.ends_with("base-uri 'none'; form-action 'none'; frame-ancestors 'none'"));
  CHECK(count(policy, "unsafe") == 0);
  CHECK(count(policy, "\n") == 0);
}

TEST_CASE("The page speaks to its own server by relative paths, and makes no HTML of a text") {
  const std::string_view html = page_html();
  // The name of the format of images is the only address.
  CHECK(count(html, "://") == count(html, "http://www.w3.org/2000/svg"));
  for (const char* path : {"'v1/chat/completions'", "'v1/models'", "'plan'", "'health'", "'tokenize'"})
    CHECK(count(html, path) >= 1);
  for (const char* path : {"'/v1", "'/plan", "'/health", "'/tokenize"}) CHECK(count(html, path) == 0);
  for (const char* way : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
                          "srcdoc", "DOMParser", " style=\"", " onclick=", " onload="})
    CHECK_MESSAGE(count(html, way) == 0, way);
}

TEST_CASE("The protocol knows everything that the page sends") {
  // tests/server/page/server_test.py compares these lines with what the page sends.
  std::ifstream file(tqkv::test::source_dir() + "/tests/server/page/requests.txt");
  std::vector<Request> requests;
  for (std::string line; std::getline(file, line);) requests.push_back(parse_chat(line));
  REQUIRE(requests.size() == 3);
  for (const Request& request : requests) {
    CHECK(request.ignored.empty());
    CHECK(request.stream);
    CHECK(request.include_usage);
    CHECK(request.model == "qwen3.5-35b");
    CHECK(std::holds_alternative<tqkv::Conversation>(request.prompt));
  }
  CHECK_FALSE(requests[0].continues);
  CHECK_FALSE(requests[0].seed);
  CHECK_FALSE(requests[1].continues);
  CHECK(requests[1].think == true);
  CHECK(requests[1].max_tokens == 256);
  CHECK(requests[1].sampling.top_k == 20);
  CHECK(requests[1].seed == static_cast<std::uint64_t>(-9007199254740993));
  CHECK(requests[1].stop == std::vector<std::string>{"END"});
  CHECK(requests[2].continues);
}
