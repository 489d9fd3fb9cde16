// Values that a sampler draws through masks, as another program reads them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "grammar/accepts.h"
#include "grammar/bundled.h"
#include "grammar/random_schemas.h"
#include "support/places.h"
#include "support/process.h"
#include "tqkv/sampling.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

/// What a sampler at temperature 2 makes of logits by chance, held by masks.
std::string drawn(const Grammar& grammar, Chance& chance, int most) {
  Matcher matcher(grammar);
  const int size = vocabulary().size();
  const std::vector<int> stops = model().stop_ids();
  TokenMasks masks(vocabulary(), size, stops);
  Sampling sampling;
  sampling.temperature = 2.0f;
  sampling.seed = chance();
  Sampler sampler(sampling);
  sampler.hold([&](int id, std::size_t) -> const std::vector<bool>* {
    const bool stop = std::find(stops.begin(), stops.end(), id) != stops.end();
    const std::string_view text = vocabulary().text(id);
    if (stop ? matcher.can_end() : !text.empty() && Matcher(matcher).advance(text)) return nullptr;
    return &masks.allowed(matcher);
  });
  std::vector<float> logits(static_cast<std::size_t>(size));
  std::string text;
  for (int position = 0; position < most; ++position) {
    for (float& logit : logits) logit = static_cast<float>(chance() % 4096) * (12.0f / 4096.0f);
    const int id = sampler.next(logits, static_cast<std::uint64_t>(position));
    if (std::find(stops.begin(), stops.end(), id) != stops.end()) return text;
    if (!matcher.advance(vocabulary().text(id))) throw std::runtime_error("a token was drawn that breaks the grammar");
    text += vocabulary().text(id);
  }
  return walk(matcher, chance, 0, text);
}

TEST_CASE("Python's jsonschema accepts every value") {
  std::string python;  // the system's own may have what another in front of it has not
  for (const char* candidate : {"python3", "/usr/bin/python3"})
    if (python.empty() && run({"/usr/bin/env", candidate, "-c", "import jsonschema"}).exit_code == 0)
      python = candidate;
#ifdef __APPLE__  // Homebrew has no package of it
  if (python.empty()) {
    MESSAGE("skipped: python3 has no jsonschema");
    return;
  }
#endif
  REQUIRE_FALSE(python.empty());
  const char* wanted = std::getenv("TQKV_GRAMMAR_SCHEMAS");  // 10000: some minutes
  const int count = wanted ? std::atoi(wanted) : 250;
  const TemporaryDirectory directory;
  const std::string file = directory.write("values.jsonl", "");
  std::ofstream out(file, std::ios::binary);
  Chance chance(wanted ? 20261128 : 11);
  int written = 0;
  while (written < count) {
    const std::string schema = random_schema(chance).dump();
    if (!refusal(schema).empty()) continue;
    const std::string value = drawn(Grammar::json_schema(schema), chance, 40);
    if (value.empty()) FAIL("stuck: " << schema);
    out << nlohmann::json{{"schema", schema}, {"value", value}}.dump() << "\n";
    ++written;
  }
  out.close();
  const ProcessResult result = run({"/usr/bin/env", python, source_dir() + "/tests/grammar/check_values.py", file});
  INFO(result.error);
  CHECK(result.exit_code == 0);
  CHECK(result.output == std::to_string(count) + " values are right\n");
}

}  // namespace
