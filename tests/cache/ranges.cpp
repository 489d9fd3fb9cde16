#include "cache/ranges.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using namespace tqkv;
using namespace tqkv::cache;

const std::vector<std::string> formats = {"baseline",
                                          "turboquant",
                                          "trellis:window=100:sink=3",
                                          "default",
                                          "turboquant:split=1:bits=3:window=70",
                                          "turboquant:k=4:v=16:sink=300",
                                          "turboquant:k=4:v=4:window=600:sink=10"};

TEST_CASE(
    "a side stores each token in its own format or in that of before the split, and the first and newest in bf16") {
  for (const std::string& text : formats) {
    const KvFormat format = KvFormat::parse(text);
    for (const SideFormat& side : {format.k, format.v}) {
      for (const int tokens : {0, 1, 255, 256, 257, 700}) {
        CAPTURE(text);
        CAPTURE(tokens);
        int coded = 0;
        for (const StoredRange& range : stored_ranges(format, side, tokens)) {
          CHECK(range.begin <= range.end);
          CHECK(range.end <= tokens);
          CHECK(range.pages() * page_tokens >= range.tokens());
          CHECK(range.pages() <= range.tokens() / page_tokens + 2);
          if (range.range == Range::main || range.range == Range::first) coded += range.tokens();
          if (range.range == Range::sink) CHECK(range.tokens() == std::min(tokens, format.sink));
          if (range.range == Range::window) CHECK(range.tokens() == std::min(tokens, format.window));
        }
        CHECK(coded == tokens);
      }
    }
  }
}

TEST_CASE("every pair of a query and a key it may see is served by one range, whatever other queries there are") {
  for (const std::string& text : formats) {
    CAPTURE(text);
    const KvFormat format = KvFormat::parse(text);
    const bool windowed = format.window > 0 && format.backend != Backend::baseline;
    const auto serves = [&](int oldest, int newest, int query, int key) {
      std::vector<Range> found;
      for (const KeySpan& span : key_spans(format, format.k, format.v, oldest, newest, 0, newest + 1)) {
        if (key < span.from || key >= span.to) continue;
        // Each query leaves out of main and window what the other one has for it.
        const bool in_window = windowed && key > query - format.window;
        if (span.range == Range::window && !in_window) continue;
        if (span.range != Range::window && span.range != Range::sink && in_window) continue;
        found.push_back(span.range);
      }
      return found;
    };
    for (const int query : {0, 5, 99, 256, 300, 640, 900}) {
      for (int key = 0; key <= query; key += 1 + query / 90) {
        const std::vector<Range> alone = serves(query, query, query, key);
        REQUIRE(alone.size() == 1);
        CHECK(serves(std::max(query - 40, 0), query, query, key) == alone);
      }
    }
  }
}

}  // namespace
