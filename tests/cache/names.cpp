#include "cache/names.h"

#include <doctest/doctest.h>

#include "tqkv/kv_format.h"

using namespace tqkv;
using cache::short_names;

namespace {

/// The name of a format that is listed alone.
std::string alone(const char* text) {
  const std::string canonical = KvFormat::parse(text).canonical();
  return short_names({canonical}).at(canonical);
}

}  // namespace

TEST_CASE("a backend's name alone is its default, whatever else is listed") {
  for (const Backend backend : all_backends()) CHECK(alone(std::string(name(backend)).c_str()) == name(backend));
  CHECK(alone("baseline:bits=32") == "baseline");  // the same under f32 precision
  CHECK(alone("turboquant:bits=3.5") == "turboquant 4/3");
  CHECK(alone("trellis:k=3:v=2:layers=7/k=4") == "trellis 3/2 layers=7/k=4");
  CHECK(alone("trellis:mean=64:window=128") == "trellis window=128 mean=64");
  CHECK(alone("trellis:mean=4:sink=8") == "trellis sink=8 mean=4");
  CHECK(alone("turboquant:k=5:values=trellis:v=3") == "turboquant 5/3 values=trellis");
  CHECK(alone("trellis:bits=3:states=16") == "trellis 3 states=16");
}

TEST_CASE("what runs when no format is named is called default, and not like its backend") {
  CHECK(alone("default") == "default");
  const std::string usual = KvFormat::usual().canonical(), turboquant = KvFormat::parse("turboquant").canonical();
  const auto names = short_names({usual, turboquant});
  CHECK(names.at(usual) == "default");
  CHECK(names.at(turboquant) == "turboquant");
}

TEST_CASE("what all listed formats share is in their names where it is not the default") {
  const std::string four = KvFormat::parse("trellis:window=128").canonical(),
                    three = KvFormat::parse("trellis:bits=3:window=128").canonical();
  const auto names = short_names({four, three});
  CHECK(names.at(four) == "trellis 4 states=4 window=128");
  CHECK(names.at(three) == "trellis 3 states=8 window=128");
}
