#include "text/utf8.h"

namespace tqkv::text {
namespace {

bool python_space(std::uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

}  // namespace

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
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
