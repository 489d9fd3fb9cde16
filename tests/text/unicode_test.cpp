#include "text/unicode.h"

#include <doctest/doctest.h>

#include <iomanip>
#include <string>

#include "text/utf8.h"

using namespace tqkv::text;

namespace {

std::string utf8(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) append_character(out, static_cast<std::uint32_t>(c));
  return out;
}

std::string lossy(std::string_view bytes, int expected) {
  std::string out;
  CHECK(append_lossy(out, bytes) == expected);
  return out;
}

}  // namespace

TEST_CASE("blanks of the split pattern are those of Hugging Face: no U+180E and no zero-width space") {
  std::size_t count = 0;
  for (std::uint32_t c = 0; c < 0x110000; ++c) count += (character_bits(c) & class_space) != 0;
  CHECK(count == 25);
  for (const std::uint32_t c :
       {0x09u, 0x0bu, 0x0du, 0x20u, 0x85u, 0xa0u, 0x1680u, 0x2028u, 0x2029u, 0x202fu, 0x3000u}) {
    CHECK((character_bits(c) & class_space) != 0);
  }
  for (const std::uint32_t c : {0x1cu, 0x180eu, 0x200bu, 0x2060u, 0xfeffu}) CHECK(character_bits(c) == 0);
}

TEST_CASE("letters, marks and numbers are known up to Unicode 16, whatever the libraries know") {
  CHECK((character_bits(U'é') & class_letter) != 0);
  CHECK((character_bits(U'漢') & class_letter) != 0);
  CHECK((character_bits(0x1c89) & class_letter) != 0);
  CHECK((character_bits(0x0897) & class_mark) != 0);
  CHECK((character_bits(0x10d40) & class_number) != 0);
  CHECK((character_bits(U'½') & class_number) != 0);
  CHECK(character_bits(0x0378) == 0);
  CHECK(character_bits(0x110000) == 0);
}

TEST_CASE("NFC composes, reorders and leaves alone what Hugging Face leaves alone") {
  CHECK(nfc(utf8(U"e\u0301")) == utf8(U"é"));
  CHECK(nfc(utf8(U"q\u0307\u0323")) == utf8(U"q\u0323\u0307"));
  CHECK(nfc(utf8(U"\u212b\u0323")) == utf8(U"\u1ea0\u030a"));
  CHECK(nfc(utf8(U"\u1112\u1161\u11ab")) == utf8(U"\ud55c"));
  CHECK(nfc(utf8(U"\uac00\u11a8")) == utf8(U"\uac01"));
  CHECK(nfc(utf8(U"\u0958")) == utf8(U"\u0915\u093c"));
  CHECK(nfc(utf8(U"\uf900")) == utf8(U"\u8c48"));
  CHECK(nfc(utf8(U"\u0dd9\u0dcf\u0dca")) == utf8(U"\u0ddd"));
  // Assigned after the version inside Hugging Face's normalizer: neither composed nor reordered.
  CHECK(nfc(utf8(U"\U00011935\U00011930")) == utf8(U"\U00011935\U00011930"));
  CHECK(nfc(utf8(U"a\u0898\u0301")) == utf8(U"a\u0898\u0301"));
  CHECK(nfc(utf8(U"a\U0001e2ae\u0323")) == utf8(U"a\U0001e2ae\u0323"));
}

TEST_CASE("text without active characters is known to be NFC at a glance") {
  CHECK(surely_nfc("plain ASCII\n"));
  CHECK(surely_nfc(utf8(U"Größe von 東京 한국 👩\u200d👧")));
  CHECK_FALSE(surely_nfc(utf8(U"e\u0301")));
  CHECK_FALSE(surely_nfc(utf8(U"\u2126")));
}

TEST_CASE("a megabyte of combining marks is sorted in no time") {
  std::u32string marks = U"e";
  for (int i = 0; i < 250000; ++i) marks += U"\u0301\u0323";
  const std::string sorted = nfc(utf8(marks));
  CHECK(sorted.substr(0, 3) == utf8(U"\u1eb9"));
  CHECK(nfc(sorted) == sorted);
}

TEST_CASE("stand-ins have the class and the length of what they stand for") {
  for (std::uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    append_character(text, c);
    const std::string shown = stand_ins(text);
    const Utf8Step step = next_character(shown, 0);
    const int classes = class_letter | class_mark | class_number | class_space;
    if (shown.size() != text.size() || (character_bits(step.code_point) & classes) != (character_bits(c) & classes)) {
      FAIL("U+" << std::hex << c);
    }
  }
  CHECK(stand_ins(utf8(U"'\u017f")) == utf8(U"'\u017f"));
}

TEST_CASE("invalid UTF-8 is replaced as Python replaces it") {
  const std::string r = "\xef\xbf\xbd";
  CHECK(lossy("a\xff"
              "b",
              1) == "a" + r + "b");
  CHECK(lossy("\xe2\x82", 1) == r);
  CHECK(lossy("\xe2\x82"
              "a",
              1) == r + "a");
  CHECK(lossy("\xc0\xaf", 2) == r + r);
  CHECK(lossy("\xed\xa0\x80", 3) == r + r + r);
  CHECK(lossy("\xf4\x90\x80\x80", 4) == r + r + r + r);
  CHECK(lossy("\xf0\x9f\x98\xf0\x9f\x98\x80", 1) == r + "\xf0\x9f\x98\x80");
  CHECK_FALSE(valid_utf8("\xed\xa0\x80"));
  CHECK(valid_utf8("\xf4\x8f\xbf\xbf"));
}

TEST_CASE("strip takes what Python's strip takes") {
  CHECK(strip(utf8(U" \t\u3000\u001c a b\u0085\u2029\n")) == "a b");
  CHECK(strip(utf8(U"\u200ba\ufeff")) == utf8(U"\u200ba\ufeff"));
  CHECK(strip(" \n ").empty());
  CHECK(strip_newlines_left("\n\n a\n") == " a\n");
  CHECK(strip_newlines_right("\n\n a\n") == "\n\n a");
}
