// UTF-8: one character at a time, with the replacement of invalid bytes that the Unicode standard recommends (one
// U+FFFD for each maximal subpart), as Python's errors="replace" and Rust's from_utf8_lossy do it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tqkv {

struct Utf8Step {
  enum class Kind { character, invalid, incomplete };  // incomplete: the text ends inside a character
  Kind kind;
  std::uint32_t code_point;  // of a character
  std::size_t length;        // bytes of the character, or of the subpart to replace
};

/// The character that starts at `at` < text.size().
Utf8Step next_character(std::string_view text, std::size_t at);

void append_character(std::string& out, std::uint32_t code_point);

/// Appends `bytes` to `out`, U+FFFD for what is invalid, and returns the number of replacements. When `open_end`, a
/// character that has begun at the end stays out and its bytes (at most 3) are left in `*rest`.
int append_lossy(std::string& out, std::string_view bytes, bool open_end = false, std::string* rest = nullptr);

bool valid_utf8(std::string_view text);

}  // namespace tqkv
