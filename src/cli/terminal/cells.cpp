#include "cli/terminal/cells.h"

#include <wchar.h>

#include <cstddef>
#include <cstdint>

#include "base/printable.h"
#include "base/utf8.h"

namespace tqkv::cli {
namespace {

// Stand-ins for cells: every library knows the width of these. One that is typed itself is a cell like others.
struct Range {
  wchar_t first;
  std::size_t size;
  bool contains(wchar_t c) const { return c >= first && static_cast<std::size_t>(c - first) < size; }
};
constexpr Range narrow_range{0xf0000, 0xfffd};  // private use
constexpr Range wide_range{0x20000, 0xa6d6};    // ideographs of extension B
constexpr wchar_t replacement = 0xfffd;

std::string utf8(wchar_t character) {
  std::string text;
  append_character(text, static_cast<std::uint32_t>(character));
  return text;
}

}  // namespace

bool Cells::is_mark(wchar_t character) {
  return character >= 0xa0 && ::wcwidth(character) == 0;
}

const Cells::Cell* Cells::find(wchar_t cell) const {
  const auto in = [&](const Range& range, const std::vector<Cell>& cells) -> const Cell* {
    const auto at = static_cast<std::size_t>(cell - range.first);
    return range.contains(cell) && at < cells.size() ? &cells[at] : nullptr;
  };
  if (const Cell* narrow = in(narrow_range, narrow_)) return narrow;
  return in(wide_range, wide_);
}

wchar_t Cells::stand_in(const Cell& cell, bool wide) {
  if (const auto known = known_.find(cell.text); known != known_.end()) return known->second;
  const Range& range = wide ? wide_range : narrow_range;
  std::vector<Cell>& cells = wide ? wide_ : narrow_;
  if (cells.size() == range.size) return replacement;
  const auto name = static_cast<wchar_t>(range.first + static_cast<wchar_t>(cells.size()));
  cells.push_back(cell);
  known_[cell.text] = name;
  return name;
}

wchar_t Cells::cell_of(wchar_t character) {
  if (!narrow_range.contains(character) && !wide_range.contains(character)) return character;
  const std::string text = utf8(character);
  return stand_in({text, text}, wide_range.contains(character));
}

wchar_t Cells::joined(wchar_t cell, std::wstring_view marks) {
  Cell grown;
  if (const Cell* known = find(cell))
    grown = *known;
  else if (cell != 0)
    grown = {utf8(cell), utf8(cell)};
  else
    grown = {"", "\u25cc"};
  for (const wchar_t mark : marks) {
    const std::string text = utf8(mark);
    grown.text += text;
    if (printable(text, Keep::nothing) == text) grown.shown += text;
  }
  return stand_in(grown, cell != 0 && ::wcwidth(cell) == 2);
}

std::wstring Cells::encode(std::string_view text) {
  std::wstring characters, cells;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_character(text, at);
    characters += step.kind == Utf8Step::Kind::character ? static_cast<wchar_t>(step.code_point) : replacement;
    at += step.length;
  }
  for (std::size_t at = 0, end = 0; at < characters.size(); at = end) {
    const bool alone = is_mark(characters[at]), has_width = ::wcwidth(characters[at]) > 0;
    end = at + (alone ? 0 : 1);
    const std::size_t marks = end;
    while (end < characters.size() && is_mark(characters[end]) && (alone || has_width)) ++end;
    const wchar_t base = alone ? L'\0' : cell_of(characters[at]);
    cells += end == marks ? base : joined(base, std::wstring_view(characters).substr(marks, end - marks));
  }
  return cells;
}

std::string Cells::decode(std::wstring_view cells) const {
  std::string text;
  for (const wchar_t c : cells) {
    const Cell* cell = find(c);
    text += cell ? cell->text : utf8(c);
  }
  return text;
}

std::string Cells::shown(std::string_view piece) {
  const std::string bytes = rest_ + std::string(piece);
  rest_.clear();
  std::string out;
  for (std::size_t at = 0; at < bytes.size();) {
    const Utf8Step step = next_character(bytes, at);
    if (step.kind == Utf8Step::Kind::incomplete) {
      rest_ = bytes.substr(at);
      break;
    }
    const Cell* cell = step.kind == Utf8Step::Kind::character ? find(static_cast<wchar_t>(step.code_point)) : nullptr;
    out += cell ? std::string_view(cell->shown) : std::string_view(bytes).substr(at, step.length);
    at += step.length;
  }
  return out;
}

}  // namespace tqkv::cli
