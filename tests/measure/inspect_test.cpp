#include "measure/inspect/inspect.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "support/places.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::measure;
using nlohmann::json;

namespace {

const std::string source = test::source_dir();

Inspection of_config(const std::string& file, InspectOptions options = {}) {
  const std::string path = source + "/models/" + file;
  if (!options.available) options.available = 24'000'000'000;
  return inspect(ModelConfig::parse(read_text(path), path), path, nullptr, options);
}

const StoredCache& stored(const Inspection& inspection, const std::string& label, int prompt) {
  for (const StoredCache& cache : inspection.stored) {
    if (cache.label == label && cache.prompt == prompt) return cache;
  }
  REQUIRE_MESSAGE(false, "no such row");
  return inspection.stored.front();
}

}  // namespace

TEST_CASE("the published byte figures of the 35B shape come out of the accounting") {
  const Inspection inspection = of_config("configs/qwen3.5-35b-a3b-4bit.json");
  const auto bf16 = [&](const char* label, int prompt) { return stored(inspection, label, prompt).bf16_state; };
  CHECK(bf16("baseline", 2048).allocated() == 80'117'760);
  CHECK(bf16("baseline", 2048).used() == 75'018'240);
  CHECK(bf16("baseline", 2048).kv_used == 42'086'400);
  CHECK(bf16("mlx_quant 4", 2048).used() == 44'768'640);
  CHECK(bf16("mlx_quant 4", 2048).allocated() == 46'202'880);
  CHECK(bf16("turboquant 4", 2048).used() == 43'617'840);
  CHECK(bf16("turboquant 4", 2048).allocated() == 44'912'640);
  CHECK(bf16("baseline", 128).used() == 35'696'640);
  CHECK(bf16("baseline", 128).allocated() == 38'174'720);
  CHECK(bf16("mlx_quant 4", 128).used() == 33'709'440);
  CHECK(bf16("mlx_quant 4", 128).allocated() == 34'406'400);
  CHECK(inspection.state_bf16.state() == 32'931'840);
  CHECK(inspection.state_f32.state() == 64'389'120);

  const std::string text = to_text(inspection);
  for (const char* figure : {"80.12", "44.77", "75.02", "42.09", "46.20", "43.62", "44.91", "35,696,640", "38,174,720",
                             "33,709,440", "34,406,400", "32,931,840", "64,389,120"}) {
    CAPTURE(figure);
    CHECK(text.find(figure) != std::string::npos);
  }
}

TEST_CASE("bytes and bits per value of every listed format are those of the format table") {
  const Inspection inspection = of_config("configs/qwen3.5-35b-a3b-4bit.json");
  const json figures = json::parse(to_json(inspection));
  const std::vector<std::tuple<const char*, int, double>> expected{
      {"baseline", 20480, 16},        {"default", 5200, 4.0625},        {"mlx_quant 4", 5760, 4.5},
      {"mlx_quant 8", 10880, 8.5},    {"turboquant 4", 5200, 4.0625},   {"turboquant 3.5", 4560, 3.5625},
      {"turboquant 3", 3920, 3.0625}, {"turboquant 2.5", 3280, 2.5625}, {"turboquant 2", 2640, 2.0625},
      {"rotated_quant 4", 5760, 4.5}, {"trellis 4", 5200, 4.0625},      {"turboquant_prod 4", 5280, 4.125},
      {"qjl", 3880, 3.03125},         {"polarquant", 4960, 3.875},      {"sketch", 5800, 4.53125}};
  REQUIRE(figures["formats"].size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& [label, bytes, bits] = expected[i];
    CHECK(figures["formats"][i]["label"] == label);
    CHECK(figures["formats"][i]["bytes_per_token"] == bytes);
    CHECK(figures["formats"][i]["bits_per_value"] == bits);
    CHECK(figures["formats"][i]["contexts"].size() == 9);
  }
}

TEST_CASE("contexts go in powers of two up to the native one, and what does not fit is marked") {
  InspectOptions options;
  options.available = 3'000'000'000;
  options.device.device = Device::parse("cpu:threads=2");
  const Inspection inspection = of_config("configs/qwen3.5-35b-a3b-4bit.json", options);
  CHECK(inspection.contexts == std::vector<int>{1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144});
  CHECK(inspection.plans[0].back().verdict == Verdict::refused);
  CHECK(inspection.plans[0].front().verdict == Verdict::weights_spill);
  const std::string text = to_text(inspection);
  const auto total = static_cast<double>(inspection.plans[0].back().total()) / 1e9;
  CHECK(text.find(fmt::format("{:.2f}!", total)) != std::string::npos);
  CHECK(text.find("3.000 GB are free") != std::string::npos);
}

TEST_CASE("with YaRN the context and its plans are those of the scaled model, and the native one is named") {
  const ModelConfig config =
      ModelConfig::parse(read_text(test::source_dir() + "/tests/fuzz/corpus/config/yarn.json"), "yarn.json");
  const Inspection inspection = inspect(config, "yarn", nullptr, {});
  CHECK(inspection.contexts.back() == 4 * 262144);
  const std::string text = to_text(inspection);
  CHECK(text.find("context 1,048,576 tokens") != std::string::npos);
  CHECK(text.find("YaRN, factor 4 of 262,144 native tokens") != std::string::npos);
}

TEST_CASE("no line of the text is wider than 120 columns") {
  for (const char* file : {"configs/qwen3.5-35b-a3b-4bit.json", "pocket/config.json"}) {
    const std::string text = to_text(of_config(file));
    for (std::size_t start = 0; start < text.size();) {
      const std::size_t end = text.find('\n', start);
      CHECK_MESSAGE(end - start <= 120, text.substr(start, end - start));
      start = end + 1;
    }
  }
}

TEST_CASE("the weights that the config of pocket describes are those its files hold") {
  const Checkpoint checkpoint = Checkpoint::open(source + "/models/pocket");
  const ModelConfig config = ModelConfig::parse(*checkpoint.text("config.json"), "config.json");
  const Inspection files = inspect(config, "pocket", &checkpoint, {}),
                   expected = inspect(config, "pocket", nullptr, {});
  CHECK(files.missing.empty());
  CHECK(files.weight_bytes == checkpoint.tensor_bytes());
  REQUIRE(files.weights.size() == expected.weights.size());
  for (std::size_t i = 0; i < files.weights.size(); ++i) {
    CHECK(files.weights[i].kind == expected.weights[i].kind);
    CHECK(files.weights[i].tensors == expected.weights[i].tensors);
    CHECK(files.weights[i].bytes == expected.weights[i].bytes);
  }
}

TEST_CASE("lengths that the context does not hold are refused") {
  InspectOptions options;
  options.prompt_tokens = {32768};
  options.generation_tokens = {1};
  CHECK_NOTHROW(of_config("pocket/config.json", options));
  options.generation_tokens = {2};
  CHECK_THROWS_AS(of_config("pocket/config.json", options), Error);
  options.generation_tokens = {0};
  CHECK_THROWS_AS(of_config("pocket/config.json", options), Error);
}
