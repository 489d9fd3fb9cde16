#include "base/utf8.h"

namespace tqkv {
namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";

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

}  // namespace tqkv
