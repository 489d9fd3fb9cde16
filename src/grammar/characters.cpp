// Characters of strings and texts: UTF-8 and JSON's escapes, a byte at a time.
#include "base/utf8.h"
#include "grammar/state.h"

namespace tqkv::grammar {
namespace {

int hex_digit(std::uint8_t byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
  if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
  return -1;
}

Progress refused() {
  return Progress::refused;
}

Progress inside(Frame& frame, CharacterStep step) {
  frame.step = step;
  return Progress::inside;
}

Progress character(Frame& frame, std::uint32_t code_point, CharacterStep step = whole) {
  frame.partial = code_point;
  frame.step = step;
  return Progress::character;
}

Progress hex_byte(Frame& frame, std::uint8_t byte) {
  const int digit = hex_digit(byte);
  if (digit < 0) return refused();
  const auto value = static_cast<std::uint32_t>(digit);
  frame.partial = frame.step == hex1 ? value : frame.partial << 4 | value;
  if (frame.step == hex2 && frame.partial >= 0xdc && frame.partial <= 0xdf) return refused();  // a second half alone
  if (frame.step != hex4) return inside(frame, static_cast<CharacterStep>(frame.step + 1));
  if (frame.partial < 0xd800 || frame.partial > 0xdbff) return character(frame, frame.partial);
  frame.partial -= 0xd800;
  return inside(frame, low_backslash);
}

/// The second half, dc00 to dfff: 10 bits after those of the first.
Progress low_byte(Frame& frame, std::uint8_t byte) {
  if (frame.step == low_backslash) return byte == '\\' ? inside(frame, low_u) : refused();
  if (frame.step == low_u) return byte == 'u' ? inside(frame, low1) : refused();
  const int digit = hex_digit(byte);
  if (digit < 0 || (frame.step == low1 && digit != 0xd) || (frame.step == low2 && digit < 0xc)) return refused();
  if (frame.step == low1) return inside(frame, low2);
  const auto value = static_cast<std::uint32_t>(digit);
  frame.partial = frame.step == low2 ? frame.partial << 2 | (value & 3) : frame.partial << 4 | value;
  if (frame.step != low4) return inside(frame, static_cast<CharacterStep>(frame.step + 1));
  return character(frame, 0x10000 + frame.partial);
}

Progress escape_byte(Frame& frame, std::uint8_t byte) {
  constexpr std::string_view letters = "\"\\/bfnrt", characters = "\"\\/\b\f\n\r\t";
  if (byte == 'u') return inside(frame, hex1);
  const std::size_t at = letters.find(static_cast<char>(byte));
  if (at == std::string_view::npos) return refused();
  return character(frame, static_cast<std::uint8_t>(characters[at]));
}

}  // namespace

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = start_hash;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_character(text, at);
    hash = add_character(hash, step.code_point);
    at += step.length;
  }
  return hash;
}

Progress utf8_byte(Frame& frame, std::uint8_t byte) {
  const auto first = [&](std::uint32_t bits, CharacterStep step) {
    frame.partial = bits;
    return inside(frame, step);
  };
  switch (frame.step) {
    case whole:
    case after_less:
      if (byte < 0xc2 || byte > 0xf4) return refused();
      if (byte < 0xe0) return first(byte & 0x1fu, tail1);
      if (byte < 0xf0) return first(byte & 0xfu, byte == 0xe0 ? tail_e0 : byte == 0xed ? tail_ed : tail2);
      return first(byte & 7u, byte == 0xf0 ? tail_f0 : byte == 0xf4 ? tail_f4 : tail3);
    default:
      break;
  }
  const std::uint8_t low = frame.step == tail_e0 ? 0xa0 : frame.step == tail_f0 ? 0x90 : 0x80;
  const std::uint8_t high = frame.step == tail_ed ? 0x9f : frame.step == tail_f4 ? 0x8f : 0xbf;
  if (byte < low || byte > high) return refused();
  frame.partial = frame.partial << 6 | (byte & 0x3fu);
  switch (frame.step) {
    case tail1:
      return character(frame, frame.partial);
    case tail2:
    case tail_e0:
    case tail_ed:
      return inside(frame, tail1);
    default:
      return inside(frame, tail2);
  }
}

Progress string_byte(Frame& frame, std::uint8_t byte, bool markup) {
  switch (frame.step) {
    case whole:
    case after_less:
      if (byte == '"') return Progress::closed;
      if (byte == '\\') return inside(frame, escape);
      if (byte < 0x20 || (byte == '/' && frame.step == after_less)) return refused();
      if (byte < 0x80) return character(frame, byte, markup && byte == '<' ? after_less : whole);
      return utf8_byte(frame, byte);
    case escape:
      return escape_byte(frame, byte);
    case hex1:
    case hex2:
    case hex3:
    case hex4:
      return hex_byte(frame, byte);
    case low_backslash:
    case low_u:
    case low1:
    case low2:
    case low3:
    case low4:
      return low_byte(frame, byte);
    default:
      return utf8_byte(frame, byte);
  }
}

// The text ends with "\n</parameter>", and has no "</parameter>" in it. frame.value: how far the tag has come, whether
// a line break stands before it. Lengths keep two promises, so that an end is always there: without what may become
// the closing tag, the text is not too long; and it is long enough, or can still continue.
Progress raw_byte(Frame& frame, std::uint8_t byte, const Node& node) {
  constexpr std::string_view closing = "</parameter>";
  constexpr std::uint64_t line = 0x100;
  const std::uint64_t come = frame.value & 0xff;
  const bool after_line = (frame.value & line) != 0;
  Progress progress = Progress::character;
  if (frame.step != whole || byte >= 0x80) {
    if (frame.step == whole) ++frame.count;
    progress = utf8_byte(frame, byte);
    if (progress == Progress::refused) return progress;
    frame.value = 0;
  } else {
    if (byte < 0x20 && byte != '\n' && byte != '\t' && byte != '\r') return refused();
    if (come == closing.size() - 1 && byte == '>')
      return after_line && frame.count - closing.size() >= node.least ? Progress::closed : refused();
    ++frame.count;
    if (byte == static_cast<std::uint8_t>(closing[come]))
      frame.value = (come + 1) | (frame.value & line);
    else
      frame.value = byte == '\n' ? line : byte == '<' ? 1 : 0;
  }
  const std::uint32_t tag = (frame.value & line) != 0 ? 1 + static_cast<std::uint32_t>(frame.value & 0xff) : 0;
  if (frame.count - tag > node.most) return refused();
  if (frame.count - tag < node.least && frame.count > node.most) return refused();
  if (node.most == unbounded && frame.count > node.least + 16)
    frame.count = node.least + 16;  // one place, however long
  return progress;
}

}  // namespace tqkv::grammar
