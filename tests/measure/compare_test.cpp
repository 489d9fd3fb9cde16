#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "measure/benchmark/benchmark.h"
#include "measure/fake_engine.h"
#include "support/places.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::measure;
using nlohmann::json;

namespace {

json report_of(std::vector<const char*> formats, int prompt = 32, int generation = 4) {
  const test::FakeEngine engine(test::source_dir() + "/models/pocket");
  BenchmarkOptions options;
  for (const char* format : formats) options.formats.push_back(KvFormat::parse(format));
  options.prompt_tokens = {prompt};
  options.generation_tokens = {generation};
  options.trials = 2;
  options.model = "fake";
  options.ids = "random ids, seed 0";
  std::vector<int> ids(static_cast<std::size_t>(ids_needed(options)));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>(i);
  return json::parse(to_json(run_benchmark(engine, ids, options)));
}

Comparison compare_all(const std::vector<json>& reports) {
  std::vector<BenchmarkFile> files;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    files.push_back({"file" + std::to_string(i) + ".json", reports[i].dump()});
  }
  return compare(files);
}

std::string refusal_of(const std::vector<BenchmarkFile>& files) {
  try {
    compare(files);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

std::string refusal_of(const std::vector<json>& reports) {
  std::vector<BenchmarkFile> files;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    files.push_back({"file" + std::to_string(i) + ".json", reports[i].dump()});
  }
  return refusal_of(files);
}

void set_speed(json& report, double prompt_tps, double generation_tps) {
  for (json& trial : report["runs"][0]["trials"]) {
    trial["prompt_tps"] = prompt_tps;
    trial["generation_tps"] = generation_tps;
  }
}

}  // namespace

TEST_CASE("separate runs are put side by side with unpaired ratios to the one baseline") {
  json baseline = report_of({"baseline"}), turboquant = report_of({"turboquant"});
  set_speed(baseline, 100, 20);
  set_speed(turboquant, 150, 10);
  const Comparison comparison = compare_all({turboquant, baseline});
  CHECK(comparison.table.find("unpaired") != std::string::npos);
  CHECK(comparison.table.find(" 1.50 ") != std::string::npos);
  const json summary = json::parse(comparison.json);
  CHECK(summary["schema"] == 1);
  CHECK(summary["kind"] == "comparison");
  CHECK(summary["unpaired"] == true);
  CHECK(summary["model"]["name"] == "fake");
  REQUIRE(summary["lengths"].size() == 1);
  const json& rows = summary["lengths"][0]["rows"];
  REQUIRE(rows.size() == 2);
  CHECK(rows[0]["file"] == "file0.json");
  CHECK(rows[0]["ratio_to_baseline"]["paired"] == false);
  CHECK(rows[0]["ratio_to_baseline"]["prompt_tps"]["median"] == 1.5);
  CHECK(rows[0]["ratio_to_baseline"]["generation_tps"]["median"] == 0.5);
  CHECK(rows[1]["ratio_to_baseline"]["prompt_tps"]["median"] == 1.0);
}

TEST_CASE("runs of one file keep their paired ratio") {
  const Comparison comparison = compare_all({report_of({"baseline", "mlx_quant"})});
  CHECK(comparison.table.find("unpaired") == std::string::npos);
  const json summary = json::parse(comparison.json);
  CHECK(summary["unpaired"] == false);
  CHECK(summary["lengths"][0]["rows"][1]["ratio_to_baseline"]["paired"] == true);
}

TEST_CASE("without a run of baseline there are no ratios, and the table says so") {
  const Comparison comparison = compare_all({report_of({"mlx_quant"}), report_of({"turboquant"})});
  CHECK(comparison.table.find("no ratios") != std::string::npos);
  CHECK(json::parse(comparison.json)["lengths"][0]["rows"][0]["ratio_to_baseline"].is_null());
}

TEST_CASE("files of other models, machines, threads, precision, state or ids are refused by name") {
  const json baseline = report_of({"baseline"});
  const auto refusal = [&](const char* pointer, const json& value) {
    json other = report_of({"turboquant"});
    REQUIRE(other.contains(json::json_pointer(pointer)));
    other[json::json_pointer(pointer)] = value;
    return refusal_of({baseline, other});
  };
  CHECK(refusal("/model/fingerprint", "0123456789abcdef").find("file1.json: the model fingerprint is 0123") !=
        std::string::npos);
  CHECK(refusal("/machine/cpu", "another").find("the processor is another, but fake processor in file0.json") !=
        std::string::npos);
  CHECK(refusal("/machine/device", "cpu:isa=avx2:threads=2").find("device") != std::string::npos);
  CHECK(refusal("/machine/device", "cpu:isa=avx512:threads=7").find("the device is cpu:isa=avx512:threads=7") !=
        std::string::npos);
  CHECK(refusal("/settings/precision", "f32").find("precision is f32") != std::string::npos);
  CHECK(refusal("/settings/state", "bf16").find("state type") != std::string::npos);
  CHECK(refusal("/settings/prefill_chunk", 64).find("prefill chunk") != std::string::npos);
  CHECK(refusal("/runs/0/ids_digest", "00").find("other ids") != std::string::npos);
}

TEST_CASE("files of other lengths are refused, whichever comes first") {
  const json one = report_of({"baseline"}, 32, 4), other = report_of({"turboquant"}, 16, 4);
  const std::string message = refusal_of({one, other});
  CHECK(message.find("file1.json: has no run of 32 prompt + 4 generated tokens at depth 0") != std::string::npos);
  CHECK(refusal_of({other, one}).find("has no run of 16 prompt") != std::string::npos);
}

TEST_CASE("broken JSON, another schema and other kinds of file are refused with one line") {
  const std::string good = report_of({"baseline"}).dump();
  const auto refusal = [&](const std::string& text) {
    const std::string message = refusal_of(std::vector<BenchmarkFile>{{"good.json", good}, {"bad.json", text}});
    CHECK(message.find('\n') == std::string::npos);
    return message;
  };
  CHECK(refusal("{\"schema\": 1,").find("bad.json: is not valid JSON") != std::string::npos);
  CHECK(refusal("").find("is not valid JSON") != std::string::npos);
  CHECK(refusal("[1, 2]").find("expected an object") != std::string::npos);
  CHECK(refusal("{}").find("has no 'kind': a file of 'tqkv benchmark' was expected") != std::string::npos);
  CHECK(refusal("{\"schema\": 2}").find("has schema 2, this version of tqkv reads schema 1") != std::string::npos);
  CHECK(refusal(compare_all({report_of({"baseline"})}).json).find("is of the kind 'comparison'") != std::string::npos);
}

TEST_CASE("a file in which a value is missing or of another type is refused and never read past") {
  const json good = report_of({"baseline"});
  int refused = 0;
  for (const json::json_pointer& place :
       {json::json_pointer("/model"), json::json_pointer("/model/fingerprint"), json::json_pointer("/machine/device"),
        json::json_pointer("/runs"), json::json_pointer("/runs/0/trials"), json::json_pointer("/runs/0/trials/0"),
        json::json_pointer("/runs/0/trials/1/prompt_tps"), json::json_pointer("/runs/0/trials/0/cache"),
        json::json_pointer("/runs/0/prompt_tokens"), json::json_pointer("/runs/0/format")}) {
    for (const json& value : {json(nullptr), json(-1), json(json::array()), json(json::object()), json(1e300)}) {
      json bad = good;
      bad[place] = value;
      CAPTURE(place.to_string());
      CAPTURE(value.dump());
      if (place.to_string() == "/runs/0/trials/1/prompt_tps" && value == json(1e300)) continue;  // a fast machine
      CHECK(!refusal_of({good, bad}).empty());
      ++refused;
    }
  }
  CHECK(refused == 49);
}
