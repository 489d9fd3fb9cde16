// Hashes of contents, by OpenSSL: sha256 as the hub names large files, and git's blob hash as it names small ones.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tqkv::hub {

class Digest {
 public:
  static Digest sha256();
  /// sha1 of "blob <bytes>" and a zero byte before the content, which must then have that many bytes.
  static Digest git_blob(std::uint64_t bytes);
  /// The one whose result has as many hexadecimal digits as `hex`; nothing but an empty result for other lengths.
  static Digest like(std::string_view hex, std::uint64_t bytes);

  void add(std::span<const std::byte> bytes);
  /// Lower-case hexadecimal digits; ends the digest.
  std::string hex();

 private:
  struct Free {
    void operator()(void* context) const;
  };
  explicit Digest(const void* algorithm);
  std::unique_ptr<void, Free> context_;  // EVP_MD_CTX
};

/// Whether `text` is the result of one of the two.
bool is_digest(std::string_view text);

}  // namespace tqkv::hub
