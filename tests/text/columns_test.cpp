#include "text/columns.h"

#include <doctest/doctest.h>

using tqkv::text::columns;

TEST_CASE("wide characters have two columns and marks none") {
  CHECK(columns("") == 0);
  CHECK(columns("Grüße") == 5);
  CHECK(columns("日本語") == 6);
  CHECK(columns("e\u0301x") == 2);
  CHECK(columns("👋!") == 3);
  CHECK(columns("a\xff") == 2);
}
