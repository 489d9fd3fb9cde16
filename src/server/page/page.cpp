#include "server/page/page.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <array>

#include "tqkv/error.h"

// Written by tqkv_embed from page.html.
extern const unsigned char tqkv_page[];
extern const std::size_t tqkv_page_size;
extern const unsigned char tqkv_page_gzip[];
extern const std::size_t tqkv_page_gzip_size;

namespace tqkv::server {
namespace {

std::string_view text_of(const unsigned char* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

/// What is between <tag> and </tag>.
std::string_view inside(std::string_view html, std::string_view tag) {
  const std::string open = fmt::format("<{}>", tag), close = fmt::format("</{}>", tag);
  const std::size_t from = html.find(open), to = html.find(close);
  if (from == std::string_view::npos || to == std::string_view::npos || to < from)
    throw Error(ErrorKind::internal, fmt::format("The page has no {}.", open));
  return html.substr(from + open.size(), to - from - open.size());
}

/// As a policy names a script: the hash of its text, in base 64.
std::string source_of(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
  if (EVP_Digest(text.data(), text.size(), hash.data(), nullptr, EVP_sha256(), nullptr) != 1)
    throw Error(ErrorKind::internal, "OpenSSL computes no sha256: is it disabled on this system?");
  std::array<unsigned char, 4 * ((SHA256_DIGEST_LENGTH + 2) / 3) + 1> digits{};
  const int size = EVP_EncodeBlock(digits.data(), hash.data(), SHA256_DIGEST_LENGTH);
  return fmt::format("'sha256-{}'", text_of(digits.data(), static_cast<std::size_t>(size)));
}

}  // namespace

std::string_view page_html() {
  return text_of(tqkv_page, tqkv_page_size);
}

std::string_view page_gzip() {
  return text_of(tqkv_page_gzip, tqkv_page_gzip_size);
}

const std::string& page_policy() {
  static const std::string policy = fmt::format(
      "default-src 'none'; connect-src 'self'; img-src 'self' data:; style-src {}; script-src {}; base-uri 'none'; "
      "form-action 'none'; frame-ancestors 'none'",
      source_of(inside(page_html(), "style")), source_of(inside(page_html(), "script")));
  return policy;
}

}  // namespace tqkv::server
