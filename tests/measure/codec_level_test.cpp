#include "measure/agreement/codec_level.h"
#include "support/sanitized.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace tqkv;
using namespace tqkv::measure;

namespace {

CodecFigures figures(const char* format, const CodecInput& input, int dim = 256) {
  const KvFormat parsed = KvFormat::parse(format);
  const auto all = measure_codec(parsed, {parsed.k, parsed.v}, dim, {&input, 1});
  REQUIRE_FALSE(all.empty());
  return all.front();
}

}  // namespace

TEST_CASE("codecs on vectors in general position have the distortion and the score variance of the theory" *
          doctest::skip(test::sanitized)) {
  const CodecInput input = gaussian_input(256, 2000);
  REQUIRE(input.parts.at(0).values.size() == 2000 * 256);
  for (const char* format :
       {"turboquant:bits=2:scalar=norm", "turboquant:bits=3:scalar=norm", "turboquant:scalar=norm",
        "turboquant_prod:bits=3", "turboquant_prod:projection=orthogonal", "qjl:projection=gaussian"}) {
    CAPTURE(format);
    const CodecFigures found = figures(format, input);
    REQUIRE(found.expected);
    CHECK(found.score_variance ==
          doctest::Approx(*found.expected).epsilon(0.02 + 4 * found.score_variance_se / found.score_variance));
    if (found.lower) CHECK(found.distortion > *found.lower);
    if (found.upper) CHECK(found.distortion < *found.upper);
    CHECK(found.count == 2000);
  }
}

TEST_CASE("signs of S leave no bias, the norm as scalar leaves that of the distortion") {
  const CodecInput input = gaussian_input(256, 2000);
  for (const char* format :
       {"turboquant_prod:bits=3", "turboquant_prod:bits=2:projection=orthogonal", "sketch", "qjl"}) {
    CAPTURE(format);
    const CodecFigures found = figures(format, input);
    CHECK(std::abs(found.bias) < 4 * found.bias_se + 1e-3);
  }
  const CodecFigures norm = figures("turboquant:bits=2:scalar=norm", input);
  CHECK(-norm.bias == doctest::Approx(norm.distortion).epsilon(0.02));
}

TEST_CASE("sides that are stored alike share a row, others have one each, and captured vectors meet their own side") {
  const CodecInput gaussian = gaussian_input(64, 10);
  CodecInput keys = gaussian;
  keys.name = "captured K";
  const std::vector<CodecInput> inputs{gaussian, keys};
  const auto measured = [&](const char* text) {
    const KvFormat format = KvFormat::parse(text);
    return measure_codec(format, {format.k, format.v}, 64, inputs);
  };
  const auto alike = measured("turboquant");
  REQUIRE(alike.size() == 2);
  CHECK(alike[0].side == "K and V");
  const auto apart = measured("turboquant:bits=3.5");
  REQUIRE(apart.size() == 3);
  CHECK(apart[0].stored == "turboquant 4 bit, scalar corrected");
  CHECK(apart[0].format == KvFormat::parse("turboquant:bits=3.5").canonical());
  CHECK(apart[1].side == "V");
  CHECK(apart[2].input == "captured K");
}

TEST_CASE("figures of single vectors are of the sides that most layers have") {
  ModelConfig config;
  config.layers = {LayerKind::full_attention, LayerKind::linear_attention, LayerKind::full_attention,
                   LayerKind::full_attention};
  const auto bits = [&](const char* text) { return usual_sides(KvFormat::parse(text), config).k.bits; };
  CHECK(bits("turboquant") == 4);
  CHECK(bits("turboquant:layers=0,2,3/k=8/v=8") == 8);
  CHECK(bits("turboquant:layers=2,3/k=5") == 5);
  CHECK(bits("turboquant:layers=2/k=5") == 4);
  CHECK(bits("turboquant:boundary=1") == 16);
}

TEST_CASE("vectors made to defeat a codec do not: the rotation spreads them") {
  const CodecInput input = adversarial_input(256);
  CHECK(figures("turboquant:bits=3", input).distortion < 3 * 0.0345);
  CHECK(figures("trellis:bits=3", input).distortion < 3 * 0.0213);
  for (const float value : input.parts.at(0).values) REQUIRE(std::isfinite(value));
}
