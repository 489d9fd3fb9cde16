#include "text/utf8.h"

namespace tqkv::text {
namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";

bool python_space(std::uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace

Utf8Step next_character(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(at);
  if (lead < 0x80) return {Utf8Step::Kind::character, lead, 1};
  // The second byte's range keeps out overlong forms, surrogates and what lies beyond U+10FFFF.
  std::size_t length = 0;
  std::uint8_t low = 0x80, high = 0xbf;
  std::uint32_t code_point = 0;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
    code_point = lead & 0x1fu;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    code_point = lead & 0x0fu;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    code_point = lead & 0x07u;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  } else {
    return {Utf8Step::Kind::invalid, 0, 1};
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i == text.size()) return {Utf8Step::Kind::incomplete, 0, i};
    const std::uint8_t next = byte(at + i);
    if (next < low || next > high) return {Utf8Step::Kind::invalid, 0, i};
    code_point = (code_point << 6) | (next & 0x3fu);
    low = 0x80;
    high = 0xbf;
  }
  return {Utf8Step::Kind::character, code_point, length};
}

void append_character(std::string& out, std::uint32_t c) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(static_cast<std::uint8_t>(byte))); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0u | (c >> 6));
    put(0x80u | (c & 0x3fu));
  } else if (c < 0x10000) {
    put(0xe0u | (c >> 12));
    put(0x80u | ((c >> 6) & 0x3fu));
    put(0x80u | (c & 0x3fu));
  } else {
    put(0xf0u | (c >> 18));
    put(0x80u | ((c >> 12) & 0x3fu));
    put(0x80u | ((c >> 6) & 0x3fu));
    put(0x80u | (c & 0x3fu));
  }
}

int append_lossy(std::string& out, std::string_view bytes, bool open_end, std::string* rest) {
  int replaced = 0;
  if (rest) rest->clear();
  for (std::size_t at = 0; at < bytes.size();) {
    const Utf8Step step = next_character(bytes, at);
    if (step.kind == Utf8Step::Kind::character) {
      out.append(bytes.substr(at, step.length));
    } else if (step.kind == Utf8Step::Kind::incomplete && open_end) {
      if (rest) rest->assign(bytes.substr(at));
      break;
    } else {
      out.append(replacement);
      ++replaced;
    }
    at += step.length;
  }
  return replaced;
}

bool valid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_character(text, at);
    if (step.kind != Utf8Step::Kind::character) return false;
    at += step.length;
  }
  return true;
}

std::string_view strip(std::string_view text) {
  std::size_t begin = 0, end = text.size();
  while (begin < end) {
    const Utf8Step step = next_character(text, begin);
    if (step.kind != Utf8Step::Kind::character || !python_space(step.code_point)) break;
    begin += step.length;
  }
  while (end > begin) {
    std::size_t start = end - 1;
    while (start > begin && (static_cast<std::uint8_t>(text[start]) & 0xc0u) == 0x80) --start;
    const Utf8Step step = next_character(text.substr(0, end), start);
    if (step.kind != Utf8Step::Kind::character || start + step.length != end || !python_space(step.code_point)) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

std::string_view strip_newlines_left(std::string_view text) {
  const std::size_t at = text.find_first_not_of('\n');
  return at == std::string_view::npos ? std::string_view{} : text.substr(at);
}

std::string_view strip_newlines_right(std::string_view text) {
  const std::size_t at = text.find_last_not_of('\n');
  return at == std::string_view::npos ? std::string_view{} : text.substr(0, at + 1);
}

}  // namespace tqkv::text
