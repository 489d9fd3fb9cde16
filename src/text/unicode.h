// What tokenizing needs to know of a code point: classes for the split pattern, and NFC. Both are pinned to the Unicode
// versions inside Hugging Face tokenizers (the two differ), whatever the versions of PCRE2 and utf8proc are, so that
// ids agree on code points that were assigned later too. The table is written by tools/check-tokenizer --write-table.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace tqkv::text {

enum : std::uint8_t {
  class_letter = 1,  // \p{L}
  class_mark = 2,    // \p{M}
  class_number = 4,  // \p{N}
  class_space = 8,   // \s
  nfc_active = 16,   // NFC changes it, moves it, or composes it with what stands before
  nfc_starts = 32    // what follows may compose with it
};

/// Bits of a code point, 0 for those the table does not name.
std::uint8_t character_bits(std::uint32_t code_point);

/// Whether NFC leaves `text` (valid UTF-8) as it is; may say no where the answer is yes.
bool surely_nfc(std::string_view text);
/// NFC of valid UTF-8. Time is linear but for sorting within one run of combining marks (n log n).
std::string nfc(std::string_view text);

/// `text` (valid UTF-8) with every character beyond ASCII replaced by a stand-in of the same class and the same number
/// of bytes, one that all versions of Unicode agree about: a pattern made of \p{L}, \p{M}, \p{N}, \s and ASCII matches
/// it at the same offsets. Characters that fold to ASCII letters stay.
std::string stand_ins(std::string_view text);

}  // namespace tqkv::text
