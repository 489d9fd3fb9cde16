// Captured vectors: what a file may hold, what is measured on it, and the order of formats on two real models.
#include "measure/agreement/captured.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <random>

#include "loaders/safetensors.h"
#include "measure/page/report.h"
#include "support/failure.h"
#include "support/sanitized.h"
#include "support/temporary_directory.h"

using namespace tqkv;
using namespace tqkv::measure;
using namespace tqkv::test;

namespace {

struct Tensor {
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

template <class Value>
std::string bytes_of(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

Tensor normal(std::vector<std::int64_t> shape, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]));
  for (float& value : values) value = normal(random);
  return {DType::f32, std::move(shape), bytes_of(values)};
}

/// One layer, `toy.3`: 40 tokens, 2 KV heads and 4 heads of 64 channels, queries at 5, 20 and 39.
struct Toy {
  std::map<std::string, Tensor> tensors{
      {"toy.3.keys", normal({40, 2, 64}, 1)},
      {"toy.3.values", normal({40, 2, 64}, 2)},
      {"toy.3.queries", normal({3, 4, 64}, 3)},
      {"toy.3.query_positions", {DType::i32, {3}, bytes_of(std::vector<std::int32_t>{5, 20, 39})}}};
  std::map<std::string, std::string> metadata{{"text", "a text"}, {"toy.attention_scale", "0.125"}};

  std::string bytes() const {
    std::vector<NamedShape> shapes;
    std::string data;
    for (const auto& [name, tensor] : tensors) {
      shapes.push_back({name, tensor.dtype, tensor.shape});
      data += tensor.bytes;
    }
    return safetensors_header(shapes, metadata) + data;
  }
};

CapturedText read(const Toy& toy) {
  const TemporaryDirectory folder;
  folder.write("toy.safetensors", toy.bytes());
  return read_captured(folder.path() / "toy.safetensors");
}

template <class Change>
std::string refusal(const Change& change) {
  Toy toy;
  change(toy);
  return failure(ErrorKind::input, [&] { read(toy); });
}

const char* test_data() {
  return std::getenv("TQKV_TEST_DATA");
}

DeviceOptions one_thread() {
  DeviceOptions options;
  options.device = Device::parse("cpu:threads=1");
  options.precision = Precision::f32;
  return options;
}

}  // namespace

TEST_CASE("a file of captured vectors is read with its shapes, scale and positions") {
  Toy toy;
  toy.metadata["toy.3.kind"] = "local";
  toy.metadata["toy.3.window"] = "16";
  const CapturedText text = read(toy);
  CHECK(text.text == "a text");
  REQUIRE(text.layers.size() == 1);
  const CapturedLayer& layer = text.layers.front();
  CHECK(layer.model == "toy");
  CHECK(layer.layer == 3);
  CHECK(layer.heads == 4);
  CHECK(layer.kv_heads == 2);
  CHECK(layer.head_dim == 64);
  CHECK(layer.tokens == 40);
  CHECK(layer.window == 16);
  CHECK(layer.scale == 0.125f);
  CHECK(layer.positions == std::vector<int>{5, 20, 39});
}

TEST_CASE("captured files that cannot be are refused with the tensor that is wrong") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(contains(refusal([&](Toy& t) { std::memcpy(t.tensors["toy.3.values"].bytes.data() + 400, &nan, 4); }),
                 "toy.3.values: has a number that is not finite"));
  CHECK(contains(refusal([](Toy& t) {
                   t.tensors["toy.3.values"] = normal({39, 2, 64}, 2);
                 }),
                 "toy.3.values: its shape is not that of the keys"));
  CHECK(contains(refusal([](Toy& t) {
                   t.tensors["toy.3.queries"] = normal({3, 4, 32}, 2);
                 }),
                 "heads of 32 channels, and those of the keys have 64"));
  CHECK(contains(refusal([](Toy& t) {
                   t.tensors["toy.3.queries"] = normal({3, 3, 64}, 2);
                 }),
                 "3 heads cannot share 2"));
  CHECK(contains(refusal([](Toy& t) { t.tensors["toy.3.queries"] = normal({2, 4, 64}, 2); }), "3 positions of 2"));
  CHECK(contains(refusal([](Toy& t) { t.tensors.erase("toy.3.queries"); }), "has no tensor toy.3.queries"));
  CHECK(contains(refusal([](Toy& t) { t.tensors.erase("toy.3.keys"); }), "no captured vectors"));
  CHECK(contains(refusal([](Toy& t) { t.tensors["toy.x.keys"] = t.tensors["toy.3.keys"]; }), "like gemma.5.keys"));
  for (const auto& wrong : {std::vector<std::int32_t>{5, 5, 39}, {20, 5, 39}, {5, 20, 40}, {-1, 5, 20}})
    CHECK(contains(refusal([&](Toy& t) { t.tensors["toy.3.query_positions"].bytes = bytes_of(wrong); }),
                   "toy.3.query_positions: position"));
  for (const char* wrong : {"", "x", "-1", "0", "nan", "inf", "0.1x"})
    CHECK(contains(refusal([&](Toy& t) { t.metadata["toy.attention_scale"] = wrong; }), "toy.attention_scale"));
  CHECK(contains(refusal([](Toy& t) { t.metadata.erase("toy.attention_scale"); }), "is missing"));
  CHECK(contains(refusal([](Toy& t) { t.metadata["toy.attention_scale"] = "1e30"; }), "a positive number up to 1000"));
  for (const char* tensor : {"toy.3.keys", "toy.3.values", "toy.3.queries"})
    for (const float huge : {3e38f, -65505.0f})
      CHECK(contains(refusal([&](Toy& t) { std::memcpy(t.tensors[tensor].bytes.data() + 400, &huge, 4); }),
                     "those of f16 are expected, which end at 65504"));
  CHECK(contains(refusal([](Toy& t) { t.metadata["toy.3.kind"] = "sliding"; }), "global or local"));
  CHECK(contains(refusal([](Toy& t) { t.metadata["toy.3.kind"] = "local"; }), "a number of tokens"));
}

TEST_CASE("an uncompressed cache has no error, and more bits have less") {
  const CapturedText text = read(Toy());
  const auto measured = [&](const char* format) {
    return measure_captured(text.layers.front(), KvFormat::parse(format), one_thread());
  };
  const CapturedFigures none = measured("baseline");
  CHECK(none.kl < 1e-12);
  CHECK(none.score_error < 1e-6);
  CHECK(none.output_error < 1e-6);
  CHECK(none.k_distortion == 0);
  double before = 0;
  for (const char* format : {"turboquant:k=5:v=5", "turboquant:k=4:v=4", "turboquant:k=3:v=3", "turboquant:k=2:v=2"}) {
    const CapturedFigures figures = measured(format);
    CHECK(figures.kl > before);
    CHECK(figures.queries == 3);
    before = figures.kl;
  }
  CHECK(measured("turboquant:k=2:v=2:window=40").kl < 1e-3);
}

TEST_CASE("values that are zero throughout give numbers, not nothing divided by nothing") {
  Toy toy;
  for (char& byte : toy.tensors["toy.3.values"].bytes) byte = 0;
  const CapturedText text = read(toy);
  const CapturedFigures figures = measure_captured(text.layers.front(), KvFormat::parse("turboquant"), one_thread());
  CHECK(figures.output_error == 0);
  CHECK(figures.v_distortion == 0);
  CHECK(figures.kl > 0);
}

TEST_CASE("a format that names layers that are not in the file is refused before any work") {
  const CapturedText text = read(Toy());
  const std::array<Precision, 1> precisions{Precision::f32};
  const std::vector<KvFormat> formats{KvFormat::parse("turboquant:layers=4/k=8")};
  CHECK(contains(failure(ErrorKind::format, [&] { evaluate_captured(text, formats, precisions, one_thread()); }),
                 "has no layer 4, it has 3"));
}

TEST_CASE("a format that a session of such a model refuses is refused for its vectors") {
  const CapturedText text = read(Toy());
  const std::array<Precision, 1> precisions{Precision::f32};
  const auto refusal = [&](const char* format) {
    const std::vector<KvFormat> formats{KvFormat::parse(format)};
    return failure(ErrorKind::format, [&] { evaluate_captured(text, formats, precisions, one_thread()); });
  };
  CHECK(
      contains(refusal("trellis:boundary=1"), "1 layers at each end leave none of the 1 attention layers compressed"));
  CHECK(contains(refusal("trellis:layers=3/k=16/v=16"), "layers leaves nothing to compress"));
  CHECK(contains(refusal("trellis:layers=3/k=16:mean=4"), "mean=4 is for compressed keys"));
}

TEST_CASE("the largest vectors that are taken have numbers for figures, which the report takes") {
  Toy toy;
  for (auto& [name, tensor] : toy.tensors) {
    if (tensor.dtype != DType::f32) continue;
    std::vector<float> values(tensor.bytes.size() / 4);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 3 == 0 ? -65504.0f : 65504.0f;
    tensor.bytes = bytes_of(values);
  }
  const CapturedText text = read(toy);
  const std::array<Precision, 2> precisions{Precision::f32, Precision::fast};
  const std::vector<KvFormat> formats{KvFormat::parse("turboquant:bits=2"), KvFormat::parse("mlx_quant:bits=2")};
  const CapturedEvaluation evaluation = evaluate_captured(text, formats, precisions, one_thread());
  for (const CapturedFigures& one : evaluation.figures)
    for (const double figure : {one.kl, one.kl_se, one.score_error, one.output_error, one.k_distortion})
      CHECK(std::isfinite(figure));
  const std::vector<ReportFile> files{{"toy.json", to_json(evaluation)}};
  CHECK_NOTHROW(make_report(files, "tqkv report toy.json"));
}

TEST_CASE("bits of a format whose layers differ are their mean, in the table and in the report") {
  Toy toy;
  for (const char* part : {"keys", "values", "queries", "query_positions"})
    toy.tensors[fmt::format("toy.5.{}", part)] = toy.tensors[fmt::format("toy.3.{}", part)];
  const CapturedText text = read(toy);
  const std::array<Precision, 1> precisions{Precision::f32};
  const std::vector<KvFormat> formats{KvFormat::parse("turboquant:layers=3/k=16/v=16")};  // 16 and 4.25 bits
  const CapturedEvaluation evaluation = evaluate_captured(text, formats, precisions, one_thread());
  CHECK(contains(to_table(evaluation), "10.12"));
  CHECK(contains(to_table(evaluation), "is " + formats.front().in_f32().canonical()));
  const std::vector<ReportFile> files{{"toy.json", to_json(evaluation)}};
  CHECK(contains(make_report(files, "tqkv report toy.json").page, "10.12"));
}

TEST_CASE("captured figures go into the report") {
  const CapturedText text = read(Toy());
  const std::array<Precision, 2> precisions{Precision::f32, Precision::fast};
  const std::vector<KvFormat> formats{KvFormat::parse("turboquant"), KvFormat::parse("turboquant:mean=8")};
  CapturedEvaluation evaluation = evaluate_captured(text, formats, precisions, one_thread());
  evaluation.command = "tqkv evaluate --captured toy.safetensors";
  CHECK(evaluation.figures.size() == 4);
  const std::vector<ReportFile> files{{"toy.json", to_json(evaluation)}};
  const Report report = make_report(files, "tqkv report toy.json");
  CHECK(contains(report.page, "Captured keys, values and queries"));
  CHECK(contains(report.page, "Layer by layer"));
  CHECK(contains(to_table(evaluation), "toy: means over layers 3"));
}

TEST_CASE("on two real models formats stand in the order that the model's own KL has" * doctest::test_suite("data") *
          doctest::skip(test::sanitized)) {
  if (!test_data()) {
    MESSAGE("skipped: TQKV_TEST_DATA is not set");
    return;
  }
  const CapturedText text = read_captured(std::filesystem::path(test_data()) / "real-kv.safetensors");
  REQUIRE(text.layers.size() == 10);
  const std::vector<const char*> names{"mlx_quant",
                                       "turboquant:k=4:v=4",
                                       "trellis:k=4:v=4",
                                       "turboquant:k=4:v=4:mean=64:window=128",
                                       "trellis:k=4:v=4:mean=64:window=128",
                                       "turboquant:k=5:v=3:values=trellis:mean=64:window=128"};
  std::vector<KvFormat> formats;
  for (const char* name : names) formats.push_back(KvFormat::parse(name));
  const std::array<Precision, 1> precisions{Precision::f32};
  const CapturedEvaluation evaluation = evaluate_captured(text, formats, precisions, one_thread());
  for (const char* model : {"gemma", "smollm2"}) {
    const auto means = means_of(evaluation.figures, model);
    REQUIRE(means.size() == names.size());
    for (std::size_t i = 1; i < means.size(); ++i) {
      CAPTURE(names[i]);
      CHECK(means[i].kl < means[i - 1].kl);
    }
    CHECK(means.back().kl < 0.08 * means[1].kl);
  }
}
