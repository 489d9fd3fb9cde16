#include "runtime/cpu/canonical.h"

#include <algorithm>
#include <cstring>

namespace tqkv::cpu {
namespace {

/// copy(in pages, in canonical order, bytes) for codes and scalars of every vector. Tokens of one page and head follow
/// each other.
template <class Bytes, class Copy>
void for_vectors(const SidePages& pages, int first, int count, Bytes* bytes, const Copy& copy) {
  const std::size_t codes = pages.codec().code_bytes, scalars = pages.codec().scalar_bytes;
  const std::size_t row = pages.bytes_per_token();
  for (int token = first; token < first + count;) {
    const int run = std::min(first + count - token, cache::page_tokens - token % cache::page_tokens);
    for (int head = 0; head < pages.kv_heads(); ++head) {
      std::byte* own_codes = pages.codes(head, token);
      std::byte* own_scalars = pages.scalars(head, token);
      Bytes* vector =
          bytes + static_cast<std::size_t>(token - first) * row + static_cast<std::size_t>(head) * (codes + scalars);
      for (int t = 0; t < run; ++t) {
        copy(own_codes, vector, codes);
        copy(own_scalars, vector + codes, scalars);
        own_codes += codes;
        own_scalars += scalars;
        vector += row;
      }
    }
    token += run;
  }
}

}  // namespace

void to_canonical(const SidePages& pages, int first, int count, std::byte* bytes) {
  for_vectors(pages, first, count, bytes,
              [](const std::byte* own, std::byte* vector, std::size_t size) { std::memcpy(vector, own, size); });
}

void from_canonical(const SidePages& pages, int first, int count, const std::byte* bytes) {
  for_vectors(pages, first, count, bytes,
              [](std::byte* own, const std::byte* vector, std::size_t size) { std::memcpy(own, vector, size); });
}

}  // namespace tqkv::cpu
