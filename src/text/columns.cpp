#include "text/columns.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/utf8.h"

namespace tqkv::text {

std::size_t columns(std::string_view text) {
  std::size_t total = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_character(text, at);
    const bool valid = step.kind == Utf8Step::Kind::character;
    total +=
        valid
            ? static_cast<std::size_t>(std::max(utf8proc_charwidth(static_cast<utf8proc_int32_t>(step.code_point)), 0))
            : step.length;
    at += step.length;
  }
  return total;
}

}  // namespace tqkv::text
