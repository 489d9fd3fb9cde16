#include "measure/agreement/text_ids.h"

#include <algorithm>

namespace tqkv::measure {

std::vector<int> first_ids(const Tokenizer& tokenizer, std::string_view text, int count) {
  constexpr std::size_t margin = 64;  // tokens that the cut may have changed
  const auto wanted = static_cast<std::size_t>(count);
  for (std::size_t bytes = 8 * wanted + 4096;; bytes *= 2) {
    std::size_t end = std::min(bytes, text.size());
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0u) == 0x80u) ++end;
    std::vector<int> ids = tokenizer.encode(text.substr(0, end), ControlStrings::plain);
    if (end < text.size() && ids.size() < wanted + margin) continue;
    ids.resize(std::min(ids.size(), wanted));
    return ids;
  }
}

}  // namespace tqkv::measure
