#include "generation/stop_strings.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tqkv/error.h"

namespace {

using namespace tqkv;

struct Shown {
  std::string text, found;
};

/// `text` in pieces of `size` bytes.
Shown shown(const std::vector<std::string>& strings, std::string_view text, std::size_t size) {
  StopStrings stops(strings);
  Shown result;
  for (std::size_t at = 0; at < text.size(); at += size) result.text += stops.push(text.substr(at, size));
  result.text += stops.finish();
  result.found = stops.found();
  return result;
}

TEST_CASE("an answer ends before a stop string, whatever pieces it comes in") {
  struct Case {
    std::vector<std::string> strings;
    std::string text, shown, found;
  };
  const std::vector<Case> cases = {
      {{"END"}, "one ENTER two END three", "one ENTER two ", "END"},
      {{"\n\n"}, "a\nb\n\nc", "a\nb", "\n\n"},
      {{"aab"}, "aaab", "a", "aab"},       // begins again inside its own beginning
      {{"abc", "b"}, "xabc", "xa", "b"},   // the one that ends first
      {{"c", "abc"}, "xabc", "x", "abc"},  // of those that end together, the longest
      {{"Grüße"}, "Viele Grüße", "Viele ", "Grüße"},
      {{"never"}, "ends in nev", "ends in nev", ""},  // what was kept back is shown at the end
      {{}, "all of it", "all of it", ""}};
  for (const Case& one : cases)
    for (std::size_t size = 1; size <= one.text.size(); ++size) {
      CAPTURE(one.text);
      CAPTURE(size);
      const Shown result = shown(one.strings, one.text, size);
      CHECK(result.text == one.shown);
      CHECK(result.found == one.found);
    }
}

TEST_CASE("text is shown as soon as it cannot become a stop string") {
  StopStrings stops({"STOP"});
  CHECK(stops.push("a ST") == "a ");
  CHECK(stops.push("ART ") == "START ");
  CHECK(stops.push("STO").empty());
  CHECK(stops.push("P and more").empty());
  CHECK(stops.found() == "STOP");
  CHECK(stops.push("nothing after it").empty());
  CHECK(stops.finish().empty());
}

TEST_CASE("a stop string that is empty or no UTF-8 is refused") {
  CHECK_THROWS_AS(StopStrings({""}), Error);
  CHECK_THROWS_AS(StopStrings({"fine", "\xff"}), Error);
}

}  // namespace
