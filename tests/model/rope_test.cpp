#include "model/rope.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "support/checkpoint_writer.h"
#include "support/failure.h"
#include "support/places.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

json tiny() {
  TinyModel model;
  model.tokenizer = false;
  return json::parse(config_json(model));
}

/// A config with the keys of `text` in its text_config.
ModelConfig parse(const json& text) {
  json config = tiny();
  for (const auto& [key, value] : text.items()) config["text_config"][key] = value;
  return ModelConfig::parse(config.dump(), "config.json");
}

std::string refusal(const json& text) {
  return failure(ErrorKind::config, [&] { parse(text); });
}

std::vector<float> floats(const std::string& hex) {
  std::vector<float> values;
  for (std::size_t i = 0; i + 8 <= hex.size(); i += 8) {
    std::uint32_t bits = 0;
    for (std::size_t byte = 0; byte < 4; ++byte)
      bits |= static_cast<std::uint32_t>(std::stoul(hex.substr(i + 2 * byte, 2), nullptr, 16)) << (8 * byte);
    values.push_back(std::bit_cast<float>(bits));
  }
  return values;
}

json yarn(json more = json::object()) {
  json rope = {{"rope_type", "yarn"},
               {"rope_theta", 1e7},
               {"partial_rotary_factor", 0.25},
               {"factor", 4.0},
               {"original_max_position_embeddings", 4096}};
  rope.update(more);
  return rope;
}

}  // namespace

TEST_CASE("rotary angles are those of transformers, native and with YaRN, to rounding") {
  const json golden = json::parse(read_text(fs::path(test::source_dir()) / "tests/golden/rope-vectors.json"));
  const auto positions = golden["positions"].get<std::vector<int>>();
  CHECK(golden["cases"].size() == 17);
  for (const json& one : golden["cases"]) {
    const std::string name = one["name"];
    CAPTURE(name);
    const RotaryAngles angles = rotary_angles(parse(one["text_config"]));
    const auto expected = floats(one["inverse_frequency"]);
    const auto cosines = floats(one["cosine"]), sines = floats(one["sine"]);
    REQUIRE(angles.inverse_frequency.size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      CHECK(std::abs(angles.inverse_frequency[i] - expected[i]) <= 4e-7f * expected[i]);
    CHECK(angles.scale == static_cast<float>(one["attention_factor"].get<double>()));
    std::vector<float> cosine(expected.size()), sine(expected.size());
    for (std::size_t p = 0; p < positions.size(); ++p) {
      angles.at(positions[p], cosine.data(), sine.data());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        // The last bit of a frequency, and of the angle, as far as the position carries it.
        const double bound = 1e-6 + 5e-7 * static_cast<double>(positions[p]) * static_cast<double>(expected[i]);
        CHECK(std::abs(cosine[i] - cosines[p * expected.size() + i]) <= bound);
        CHECK(std::abs(sine[i] - sines[p * expected.size() + i]) <= bound);
      }
    }
  }
}

TEST_CASE("YaRN raises the context to the scaled one, however the file counts it") {
  const auto context = [](const json& text) { return parse(text).max_position_embeddings; };
  CHECK(context({{"rope_parameters", yarn()}, {"max_position_embeddings", 4096}}) == 16384);
  CHECK(context({{"rope_parameters", yarn()}, {"max_position_embeddings", 16384}}) == 16384);
  CHECK(context({{"rope_parameters", yarn({{"original_max_position_embeddings", 262144}})},
                 {"max_position_embeddings", 1010000}}) == 1010000);
  json rope = yarn();
  rope.erase("original_max_position_embeddings");
  CHECK(context({{"rope_parameters", rope}, {"max_position_embeddings", 2048}}) == 8192);
  rope.erase("factor");  // then it is the ratio of the two contexts
  rope["original_max_position_embeddings"] = 4096;
  const auto config = parse({{"rope_parameters", rope}, {"max_position_embeddings", 12288}});
  CHECK(config.max_position_embeddings == 12288);
  CHECK(config.yarn->factor == 3);
  CHECK(config.yarn->original_context == 4096);
  CHECK(contains(refusal({{"rope_parameters", yarn({{"factor", 1024}, {"original_max_position_embeddings", 262144}})},
                          {"max_position_embeddings", 262144}}),
                 "more than the 16777216 that are supported"));
}

TEST_CASE("scaling is found in rope_scaling too, alone or with rope_parameters, with type or rope_type") {
  json scaling = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 4096}};
  const auto factor = [](const json& text) {
    const auto config = parse(text);
    return config.yarn ? config.yarn->factor : 0;
  };
  CHECK(factor({{"rope_scaling", scaling}}) == 4);  // beside rope_parameters of type default
  CHECK(factor({{"rope_scaling", scaling}, {"rope_parameters", nullptr}, {"rope_theta", 1e7}}) == 4);
  scaling["rope_type"] = "yarn";
  CHECK(factor({{"rope_scaling", scaling}}) == 4);
  CHECK(factor({{"rope_scaling", scaling}, {"rope_parameters", yarn()}}) == 4);
  CHECK(factor({{"rope_scaling", {{"type", "mrope"}, {"mrope_section", {11, 11, 10}}}}}) == 0);
  CHECK(factor({{"rope_scaling", json::object()}}) == 0);
  scaling["rope_type"] = "default";
  CHECK(contains(refusal({{"rope_scaling", scaling}}), "rope_scaling: rope_type is \"default\", but type is \"yarn\""));
  CHECK(contains(refusal({{"rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}}, {"rope_parameters", yarn()}}),
                 "text_config: rope_scaling: factor is 2.0 here and 4.0 in rope_parameters"));
  CHECK(contains(refusal({{"rope_theta", 1e6}}), "rope_theta is 1000000.0 here and 10000000.0 in rope_parameters"));
}

TEST_CASE("a scaling that is not computed is refused where it stands") {
  for (const char* kind : {"linear", "dynamic", "llama3", "longrope", "su", "proportional"})
    for (const char* key : {"type", "rope_type"}) {
      const json scaling = {{key, kind}, {"factor", 2.0}};
      const std::string expected = std::string("rope_type is \"") + kind + "\", only \"default\" and \"yarn\"";
      CHECK(contains(refusal({{"rope_scaling", scaling}}), expected));
      json rope = scaling;
      rope["rope_theta"] = 1e7;
      CHECK(contains(refusal({{"rope_parameters", rope}}), "config.json: text_config: rope_parameters: " + expected));
      json top = tiny();
      top["rope_scaling"] = scaling;
      CHECK(contains(failure(ErrorKind::config, [&] { ModelConfig::parse(top.dump(), "config.json"); }),
                     "config.json: rope_scaling is {"));
    }
  json top = tiny();
  top["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}};
  CHECK(contains(failure(ErrorKind::config, [&] { ModelConfig::parse(top.dump(), "config.json"); }),
                 "next to text_config, which does not have it: move it into text_config"));
  const json factor = {{"rope_type", "default"}, {"rope_theta", 1e7}, {"factor", 4.0}};
  CHECK(contains(refusal({{"rope_parameters", factor}}),
                 "factor is 4.0, but rope_type is \"default\", which scales nothing: set rope_type to \"yarn\""));
  CHECK(contains(refusal({{"rope_parameters", {{"rope_theta", 1e7}, {"low_freq_factor", 1.0}}}}),
                 "rope_parameters: low_freq_factor is 1.0, but tqkv does not know this key"));
  CHECK(!parse({{"rope_parameters", {{"rope_theta", 1e7}, {"factor", 1.0}}}}).yarn);
}

TEST_CASE("numbers of YaRN that make no sense are refused") {
  const auto wrong = [](const json& more) { return refusal({{"rope_parameters", yarn(more)}}); };
  CHECK(contains(wrong({{"factor", 0.5}}), "factor is 0.5, expected a number from 1 to 1024"));
  CHECK(contains(wrong({{"factor", "4"}}), "factor is \"4\", expected a number"));
  CHECK(contains(wrong({{"factor", 1e300}}), "factor is 1e+300, expected"));
  CHECK(contains(wrong({{"original_max_position_embeddings", 0}}), "original_max_position_embeddings is 0, expected"));
  CHECK(contains(wrong({{"attention_factor", -1}}), "attention_factor is -1, expected"));
  CHECK(contains(wrong({{"beta_fast", 1}, {"beta_slow", 2}}), "beta_fast is 1, expected no less than beta_slow (2)"));
  CHECK(contains(wrong({{"mscale", -1}}), "mscale is -1, expected"));
  CHECK(contains(wrong({{"truncate", 1}}), "truncate is 1, expected true or false"));
}
