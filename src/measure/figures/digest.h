// Digests, XXH3 of 64 bits in 16 hexadecimal digits: they tell ids and texts apart.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace tqkv::measure {

class Digest {
 public:
  void add(int id);  ///< as 8 bytes, little-endian
  /// With their number in front, so that neighbours cannot trade ids or characters.
  void add_list(std::span<const int> ids);
  void add_text(std::string_view text);
  std::string hex() const;

 private:
  std::string bytes_;
};

std::string digest_of(std::span<const int> ids);

}  // namespace tqkv::measure
