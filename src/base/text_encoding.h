// Text files as people's editors and shells write them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tqkv {

/// `bytes` without a byte order mark of UTF-8, or converted from UTF-16 with a byte order mark. Everything else stays
/// as it is, line ends and invalid bytes too. `name` is where the text came from. Throws Error(input) for UTF-16 that
/// is cut or has half a surrogate pair, and for UTF-32.
std::string without_byte_order_mark(std::string bytes, const std::string& name);

/// Whether `bytes`, the beginning of a text, may still become a byte order mark that is longer.
bool begins_byte_order_mark(std::string_view bytes);

/// Whether `bytes` begins with the byte order mark of UTF-16 or UTF-32.
bool is_wide_encoding(std::string_view bytes);

/// Bytes of a text that are not UTF-8.
struct InvalidUtf8 {
  std::size_t line = 1, column = 1;  ///< of the first; columns are characters
  std::uint8_t byte = 0;
  std::size_t count = 0;  ///< sequences

  /// "line 2, column 7: byte 0xff is invalid UTF-8 (3 more sequences follow)"
  std::string text() const;
};

/// Nothing for valid text.
std::optional<InvalidUtf8> find_invalid_utf8(std::string_view text);

}  // namespace tqkv
