#include "base/text_encoding.h"

#include <doctest/doctest.h>

#include <string>

#include "support/failure.h"
#include "tqkv/error.h"

using namespace tqkv;

namespace {

std::string utf16(const std::u16string& text, bool big) {
  std::string bytes;
  for (const char16_t unit : text) {
    const char high = static_cast<char>(unit >> 8), low = static_cast<char>(unit & 0xff);
    bytes += big ? high : low;
    bytes += big ? low : high;
  }
  return bytes;
}

}  // namespace

TEST_CASE("a byte order mark is no part of the text, and UTF-16 is read as the text that it is") {
  const std::string text = "Grüße 日本語 👋\r\n";
  CHECK(without_byte_order_mark("\xef\xbb\xbf" + text, "f") == text);
  for (const bool big : {false, true})
    CHECK(without_byte_order_mark(utf16(u"\ufeffGrüße 日本語 👋\r\n", big), "f") == text);
  CHECK(without_byte_order_mark(text, "f") == text);
  CHECK(without_byte_order_mark("", "f").empty());
  CHECK(without_byte_order_mark("a\xef\xbb\xbf", "f") == "a\xef\xbb\xbf");
  CHECK(without_byte_order_mark("\xff\xfe", "f").empty());
}

TEST_CASE("UTF-16 that is damaged and UTF-32 are refused by name") {
  const auto refused = [](const std::string& bytes, const char* what) {
    try {
      without_byte_order_mark(bytes, "notes.txt");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::input);
      const std::string message = error.what();
      CAPTURE(message);
      CHECK(message.find("notes.txt: ") != std::string::npos);
      CHECK(message.find(what) != std::string::npos);
      return;
    }
    FAIL("not refused");
  };
  refused(utf16(u"\ufeffab", false) + "c", "byte 7: the text is UTF-16 and ends inside a character");
  std::u16string half = u"\ufeffab";
  half += static_cast<char16_t>(0xd83d);
  refused(utf16(half, true), "byte 6: the text is UTF-16 and has half a surrogate pair");
  refused(utf16(half + u"x", false), "half a surrogate pair");
  half.back() = static_cast<char16_t>(0xdc00);
  refused(utf16(half, false), "half a surrogate pair");
  refused(std::string("\xff\xfe\0\0a\0\0\0", 8), "UTF-32");
  refused(std::string("\0\0\xfe\xff\0\0\0a", 8), "UTF-32");
}

TEST_CASE("invalid UTF-8 is named with its line and column") {
  CHECK_FALSE(find_invalid_utf8("Grüße\n日本語").has_value());
  CHECK(find_invalid_utf8("Gr\xfc\xdf")->text() ==
        "line 1, column 3: byte 0xfc is invalid UTF-8 (1 more sequence follows)");
  CHECK(find_invalid_utf8("ü\r\n日本\xe6\x97")->text() == "line 2, column 3: byte 0xe6 is invalid UTF-8");
  CHECK(find_invalid_utf8("a\xff\xff\xff")->count == 3);
}

TEST_CASE("the beginning of a text is told from a byte order mark that is not whole yet") {
  for (const char* part : {"", "\xef", "\xef\xbb", "\xff", "\xfe"}) CHECK(begins_byte_order_mark(part));
  for (const char* whole : {"a", "\xef\xbb\xbf", "\xfe\xff", "\xef\xbc"}) CHECK_FALSE(begins_byte_order_mark(whole));
}
