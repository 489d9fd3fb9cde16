#include "base/printable.h"

#include <doctest/doctest.h>

using namespace tqkv;

TEST_CASE("what a terminal would obey is written out, and ordinary text in any language is not") {
  CHECK(printable("Grüße 日本語 e\u0301 👩\u200d💻\n\tcode", Keep::lines_and_tabs) ==
        "Grüße 日本語 e\u0301 👩\u200d💻\n\tcode");
  CHECK(printable("a\nb\tc", Keep::nothing) == "a\\nb\\tc");
  CHECK(printable("\x1b[31mred\x07\r\x7f", Keep::lines_and_tabs) == "\\x1b[31mred\\x07\\x0d\\x7f");
  CHECK(printable("\u009b2J\u0085", Keep::lines_and_tabs) == "\\u009b2J\\u0085");
  CHECK(printable("abc\u202egnp.exe\u2066\u200f", Keep::nothing) == "abc\\u202egnp.exe\\u2066\u200f");
  CHECK(printable(std::string_view("\0x", 2), Keep::nothing) == "\\x00x");
}

TEST_CASE("bytes that are not UTF-8 are written out, because some terminals take them for commands") {
  CHECK(printable("\x9b"
                  "2J \xff \xc3",
                  Keep::nothing) == "\\x9b2J \\xff \\xc3");
}
