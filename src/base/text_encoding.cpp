#include "base/text_encoding.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/utf8.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

constexpr std::string_view utf8_mark = "\xef\xbb\xbf", utf16_little = "\xff\xfe", utf16_big = "\xfe\xff";
constexpr std::string_view utf32_little("\xff\xfe\0\0", 4), utf32_big("\0\0\xfe\xff", 4);

std::string from_utf16(std::string_view bytes, bool big, const std::string& name) {
  const auto refuse = [&](std::size_t at, const char* what) {
    throw Error(ErrorKind::input,
                fmt::format("{}: byte {}: the text is UTF-16 and {}: save it as UTF-8", name, at, what));
  };
  const auto unit = [&](std::size_t at) {
    const auto first = static_cast<std::uint8_t>(bytes[at]), second = static_cast<std::uint8_t>(bytes[at + 1]);
    return static_cast<std::uint32_t>(big ? first << 8 | second : second << 8 | first);
  };
  std::string text;
  text.reserve(bytes.size());
  if (bytes.size() % 2 != 0) refuse(bytes.size(), "ends inside a character");
  for (std::size_t at = 2; at < bytes.size(); at += 2) {
    std::uint32_t c = unit(at);
    if (c >= 0xd800 && c < 0xe000) {
      const std::uint32_t low = c < 0xdc00 && at + 4 <= bytes.size() ? unit(at + 2) : 0;
      if (low < 0xdc00 || low >= 0xe000) refuse(at, "has half a surrogate pair");
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
      at += 2;
    }
    append_character(text, c);
  }
  return text;
}

}  // namespace

std::string without_byte_order_mark(std::string bytes, const std::string& name) {
  if (bytes.starts_with(utf32_little) || bytes.starts_with(utf32_big))
    throw Error(ErrorKind::input, fmt::format("{}: the text is UTF-32: save it as UTF-8", name));
  if (bytes.starts_with(utf16_little)) return from_utf16(bytes, false, name);
  if (bytes.starts_with(utf16_big)) return from_utf16(bytes, true, name);
  if (bytes.starts_with(utf8_mark)) bytes.erase(0, utf8_mark.size());
  return bytes;
}

bool begins_byte_order_mark(std::string_view bytes) {
  const auto begins = [&](std::string_view mark) { return bytes.size() < mark.size() && mark.starts_with(bytes); };
  return begins(utf8_mark) || begins(utf16_little) || begins(utf16_big) || begins(utf32_little) || begins(utf32_big);
}

bool is_wide_encoding(std::string_view bytes) {
  return bytes.starts_with(utf16_little) || bytes.starts_with(utf16_big) || bytes.starts_with(utf32_big);
}

std::string InvalidUtf8::text() const {
  std::string more;
  if (count > 1) more = fmt::format(" ({} more sequence{})", count - 1, count == 2 ? " follows" : "s follow");
  return fmt::format("line {}, column {}: byte {:#04x} is invalid UTF-8{}", line, column, byte, more);
}

std::optional<InvalidUtf8> find_invalid_utf8(std::string_view text) {
  InvalidUtf8 found;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_character(text, at);
    if (step.kind != Utf8Step::Kind::character) {
      if (found.count == 0) found.byte = static_cast<std::uint8_t>(text[at]);
      ++found.count;
    } else if (found.count == 0) {
      const bool newline = step.code_point == '\n';
      found.line += newline ? 1 : 0;
      found.column = newline ? 1 : found.column + 1;
    }
    at += step.length;
  }
  if (found.count == 0) return std::nullopt;
  return found;
}

}  // namespace tqkv
