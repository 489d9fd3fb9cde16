// The alphabet of a line editor that takes every character for one or two columns of its own. Marks, joiners and
// variation selectors have none: together with the character before them they are a cell, which the editor sees as one
// character of the same width, and which is written out on its way to the terminal.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::cli {

/// Characters are wide when wcwidth() says so: under the character type of UTF-8 (character_type.h).
class Cells {
 public:
  /// The editor's characters for `text`, and back. Invalid UTF-8 becomes U+FFFD.
  std::wstring encode(std::string_view text);
  std::string decode(std::wstring_view cells) const;
  /// The cell of `cell`, 0 for none, with characters of no width behind it.
  wchar_t joined(wchar_t cell, std::wstring_view marks);
  /// Whether a character belongs to the cell before it.
  static bool is_mark(wchar_t character);
  /// What the terminal is to show: cells written out, their text without what changes its direction. A character that
  /// is cut off at the end waits for the next piece.
  std::string shown(std::string_view piece);

 private:
  struct Cell {
    std::string text, shown;
  };
  wchar_t cell_of(wchar_t character);
  wchar_t stand_in(const Cell& cell, bool wide);
  const Cell* find(wchar_t cell) const;

  std::vector<Cell> narrow_, wide_;
  std::map<std::string, wchar_t> known_;  // by text
  std::string rest_;
};

}  // namespace tqkv::cli
