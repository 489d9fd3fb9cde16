#include "base/printable.h"

#include <fmt/format.h>

#include <cstdint>

#include "base/utf8.h"

namespace tqkv {
namespace {

/// Embeddings, overrides and isolates, which change the order of what follows. Marks (U+200E, U+200F) are ordinary
/// text.
bool changes_direction(std::uint32_t c) {
  return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/// Empty for a character that is shown as it is.
std::string escape_of(std::uint32_t c, Keep keep) {
  if (c == '\n' || c == '\t') return keep == Keep::lines_and_tabs ? "" : c == '\n' ? "\\n" : "\\t";
  if (c < 0x20 || c == 0x7f) return fmt::format("\\x{:02x}", c);
  if ((c >= 0x80 && c < 0xa0) || changes_direction(c)) return fmt::format("\\u{:04x}", c);
  return {};
}

}  // namespace

std::string printable(std::string_view text, Keep keep) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_character(text, at);
    const std::string_view bytes = text.substr(at, step.length);
    if (step.kind == Utf8Step::Kind::character) {
      const std::string escape = escape_of(step.code_point, keep);
      out.append(escape.empty() ? bytes : escape);
    } else {
      for (const char byte : bytes) out += fmt::format("\\x{:02x}", static_cast<std::uint8_t>(byte));
    }
    at += step.length;
  }
  return out;
}

}  // namespace tqkv
