// Every format of a file is described once: what is read is what was written, field by field.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>

#include "base/file.h"
#include "measure/files/evaluation_fields.h"
#include "measure/files/measured.h"
#include "measure/files/speed_fields.h"
#include "measure/files/tuning_fields.h"
#include "measure/report_example.h"
#include "support/failure.h"
#include "support/places.h"

using namespace tqkv;
using namespace tqkv::measure;
using nlohmann::json;
using test::contains;

namespace {

template <class Figures>
json again(const json& file) {
  const json parsed = json::parse(file.dump());
  Figures figures;
  take(JsonObject("file.json", parsed, "the file"), figures);
  return json(JsonWriter::json_of(figures));
}

// Numbers that the program derives when it writes may differ in their last digit from what an example says.
void require_same(const json& written, const json& read, const std::string& place) {
  CAPTURE(place);
  if (written.is_object()) {
    for (const auto& [key, value] : written.items()) {
      REQUIRE_MESSAGE(read.contains(key), place << "/" << key);
      require_same(value, read.at(key), place + "/" + key);
    }
  } else if (written.is_array()) {
    REQUIRE(written.size() == read.size());
    for (std::size_t i = 0; i < written.size(); ++i) require_same(written[i], read[i], place + "/" + std::to_string(i));
  } else if (written.is_number_float()) {
    CHECK(written.get<double>() == doctest::Approx(read.get<double>()).epsilon(1e-12));
  } else {
    CHECK(written == read);
  }
}

struct Limited {
  std::string place;
  Limits limits;
};

// Either end is taken, and nothing beyond.
template <class Figures>
void check_limits(const json& whole, std::span<const Limited> all) {
  for (const auto& [place, limits] : all) {
    CAPTURE(place);
    json file = whole;
    json& number = file.at(json::json_pointer(place));
    const bool integer = number.is_number_integer();
    const auto beyond = [&](double end) { return integer ? 1 : std::max(std::abs(end), 1.0) * 1e-6; };
    const auto put = [&](double value) {
      if (integer)
        number = static_cast<std::int64_t>(value);
      else
        number = value;
    };
    for (const double end : {limits.least, limits.most}) {
      put(end);
      CHECK_NOTHROW(again<Figures>(file));
    }
    for (const double outside : {limits.least - beyond(limits.least), limits.most + beyond(limits.most)}) {
      put(outside);
      test::failure(ErrorKind::input, [&] { again<Figures>(file); });
    }
  }
}

json committed(const std::string& name) {
  return json::parse(read_text(test::source_dir() + "/benchmarks/" + name));
}

}  // namespace

TEST_CASE("a committed file that is read and written again has every field and value that it had") {
  for (const char* name : {"quality_pocket_fast.json", "quality_pocket_scalars.json", "quality_pocket_recall.json"}) {
    json file = committed(name);
    const json read = again<EvaluationFigures>(file);
    for (const char* header : {"schema", "kind", "tool", "command", "model", "machine", "settings"}) file.erase(header);
    require_same(file, read, name);
  }
  json captured = committed("captured_real_kv.json");
  require_same(captured.at("captured"), again<CapturedRuns>(captured).at("captured"), "captured");
  for (const char* name :
       {"pocket_paired_2048_128.json", "35b-shape_trellis_2048_64.json", "pocket_baseline_128_8.json"})
    require_same(committed(name).at("runs"), again<BenchmarkFigures>(committed(name)).at("runs"), name);
  const json comparison = committed("pocket_summary_2048_128.json");
  require_same(comparison.at("lengths"), again<ComparisonFigures>(comparison).at("lengths"), "comparison");
}

TEST_CASE("a field that is taken out of a file is named") {
  const json whole = test::example_evaluation({{"baseline:bits=32", 32, 0.1, 0.01, 24}});
  for (const auto& [key, value] : whole["runs"][0]["agreement"]["all"].items()) {
    json file = whole;
    file["runs"][0]["agreement"]["all"].erase(key);
    if (key == "ratio_se") {
      CHECK(again<EvaluationFigures>(file)["runs"][0]["agreement"]["all"][key].is_null());
      continue;
    }
    const std::string message = test::failure(ErrorKind::input, [&] { again<EvaluationFigures>(file); });
    CHECK_MESSAGE(contains(message, "file.json: runs[0].agreement.all has no '" + key + "'"), message);
  }
}

TEST_CASE("a number is taken as far as its limits go") {
  constexpr Limits nat{0, 1e6}, share{0, 1}, change{0, 1e12}, seconds{0, 1e9};
  json evaluation = test::example_evaluation({{"turboquant:k=4:v=4", 4.0625, 0.1, 0.01, 24}});
  evaluation["codec_level"].push_back(test::example_codec("turboquant:k=4", "gaussian", 4));
  evaluation["codec_level"][0]["expected"] = 0.5;
  const Limited of_evaluation[] = {{"/runs/0/agreement/all/kl/mean", nat},
                                   {"/runs/0/agreement/all/kl/se", nat},
                                   {"/runs/0/agreement/all/kl/median", nat},
                                   {"/runs/0/agreement/all/kl/p90", nat},
                                   {"/runs/0/agreement/all/kl/p99", nat},
                                   {"/runs/0/agreement/all/kl/p999", nat},
                                   {"/runs/0/agreement/all/kl/max", nat},
                                   {"/runs/0/agreement/all/same_top/share", share},
                                   {"/runs/0/agreement/all/same_top/se", share},
                                   {"/runs/0/agreement/all/perplexity", change},
                                   {"/runs/0/agreement/all/reference_perplexity", change},
                                   {"/runs/0/agreement/all/ratio", change},
                                   {"/runs/0/agreement/all/ratio_se", change},
                                   {"/runs/0/agreement/all/probability/mean", {-1, 1}},
                                   {"/runs/0/agreement/all/probability/rms", share},
                                   {"/runs/0/agreement/block_kl/0", nat},
                                   {"/runs/0/recall/seconds", seconds},
                                   {"/runs/0/recall/total/low", share},
                                   {"/runs/0/recall/total/high", share},
                                   {"/runs/0/recall/needle/0/depth", share},
                                   {"/runs/0/recall/paired/points", {-100, 100}},
                                   {"/runs/0/recall/paired/low", {-200, 200}},
                                   {"/runs/0/recall/paired/high", {-200, 200}},
                                   {"/runs/0/recall/answers/0/0", share},
                                   {"/runs/0/bits_per_value/k", {0, 64}},
                                   {"/runs/0/bits_per_value/v", {0, 64}},
                                   {"/runs/0/layers/0/layer", {0, 1 << 20}},
                                   {"/runs/0/seconds", seconds},
                                   {"/reference/perplexity", change},
                                   {"/codec_level/0/bits_per_value", {1e-3, 64}},
                                   {"/codec_level/0/distortion", change},
                                   {"/codec_level/0/distortion_se", change},
                                   {"/codec_level/0/bias", {-1e12, 1e12}},
                                   {"/codec_level/0/bias_se", change},
                                   {"/codec_level/0/score_variance", change},
                                   {"/codec_level/0/score_variance_se", change},
                                   {"/codec_level/0/bound_lower", change},
                                   {"/codec_level/0/bound_upper", change},
                                   {"/codec_level/0/expected", change}};
  check_limits<EvaluationFigures>(evaluation, of_evaluation);

  constexpr Limits error{0, 1e30};
  const json captured = {{"captured", json::array({committed("captured_real_kv.json").at("captured").at(0)})}};
  const Limited of_captured[] = {{"/captured/0/layer", {0, 1 << 20}}, {"/captured/0/bits_per_value", {1e-3, 64}},
                                 {"/captured/0/k_distortion", error}, {"/captured/0/v_distortion", error},
                                 {"/captured/0/score_error", error},  {"/captured/0/kl", {-1, 1e30}},
                                 {"/captured/0/kl_se", error},        {"/captured/0/output_error", error}};
  check_limits<CapturedRuns>(captured, of_captured);
}

TEST_CASE("a tuning that is not finished ends with its measurements, and another kind of side is refused") {
  TuningFigures figures;
  figures.goal.bits = 4;
  figures.measurements = {{false, "turboquant:k=4", 0.1, 0.01, 0.9, 1.01, 2.5}};
  json file = JsonWriter::json_of(figures);
  CHECK(!file.contains("sides"));
  CHECK(again<TuningFigures>(file) == file);
  figures.finished = true;
  figures.sides = {{3, true, {{2, "codes", 64, 0.5}}}};
  file = JsonWriter::json_of(figures);
  CHECK(file["sides"][0]["side"] == "k");
  CHECK(again<TuningFigures>(file) == file);
  file["sides"][0]["side"] = "q";
  CHECK(contains(test::failure(ErrorKind::input, [&] { again<TuningFigures>(file); }),
                 "sides[0] has a side that is neither"));
}

TEST_CASE("the devices of older files are read as what they were") {
  const auto device = [](const json& file) {
    constexpr std::string_view kind = "evaluation";
    return MeasuredFile("old.json", file.dump(), {&kind, 1}, "an evaluation").measured().device.device.canonical();
  };
  json file = test::example_evaluation({});
  CHECK(device(file) == "cpu:isa=avx512:threads=2");
  file["machine"] = {{"device", "cuda:0"}, {"cpu", "AMD EPYC"}};
  CHECK(device(file) == "cuda:0");
  file["machine"]["device"] = "cpu:isa";
  CHECK(contains(test::failure(ErrorKind::input, [&] { device(file); }), "old.json: machine.device: "));
}
