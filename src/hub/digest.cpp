#include "hub/digest.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

constexpr std::size_t sha256_digits = 64, sha1_digits = 40;

[[noreturn]] void fail() {
  throw Error(ErrorKind::internal, "OpenSSL computes no hash: is sha256 or sha1 disabled on this system?");
}

}  // namespace

void Digest::Free::operator()(void* context) const {
  EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context));
}

Digest::Digest(const void* algorithm) {
  if (algorithm == nullptr) return;
  context_.reset(EVP_MD_CTX_new());
  if (!context_ ||
      EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_.get()), static_cast<const EVP_MD*>(algorithm), nullptr) != 1)
    fail();
}

Digest Digest::sha256() {
  return Digest(EVP_sha256());
}

Digest Digest::git_blob(std::uint64_t bytes) {
  Digest digest{EVP_sha1()};
  const std::string header = fmt::format("blob {}", bytes);
  digest.add(std::as_bytes(std::span(header.c_str(), header.size() + 1)));
  return digest;
}

Digest Digest::like(std::string_view hex, std::uint64_t bytes) {
  if (hex.size() == sha256_digits) return sha256();
  if (hex.size() == sha1_digits) return git_blob(bytes);
  return Digest(nullptr);
}

void Digest::add(std::span<const std::byte> bytes) {
  if (!context_ || bytes.empty()) return;
  if (EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), bytes.size()) != 1) fail();
}

std::string Digest::hex() {
  if (!context_) return "";
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned size = 0;
  if (EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), &size) != 1) fail();
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

bool is_digest(std::string_view text) {
  return (text.size() == sha256_digits || text.size() == sha1_digits) &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace tqkv::hub
