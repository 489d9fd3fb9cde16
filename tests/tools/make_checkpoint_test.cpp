// tools/make-checkpoint: what it writes opens, binds, runs and is evenly routed; what it refuses leaves nothing behind.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/float16.h"
#include "model/weights.h"
#include "support/checkpoint_writer.h"
#include "support/failure.h"
#include "support/places.h"
#include "support/process.h"
#include "tqkv/engine.h"
#include "tqkv/model.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;
using nlohmann::json;

TinyModel small_model() {
  TinyModel model;
  model.vocab = 8192;
  model.hidden = 256;
  model.layers = 8;
  model.experts = 16;
  model.module_bits = {{"language_model.model.layers.0.mlp.gate", 8}, {"language_model.model.layers.7.mlp.gate", 8}};
  return model;
}

/// Runs the tool on the config of `model`, which is written to `folder`.
ProcessResult make(const TemporaryDirectory& folder, const TinyModel& model, const std::string& to,
                   std::vector<std::string> options = {}) {
  std::vector<std::string> command = {test::make_checkpoint_program(), folder.write("config.json", config_json(model)),
                                      to};
  command.insert(command.end(), options.begin(), options.end());
  return run(command);
}

fs::path made(const TemporaryDirectory& folder, const TinyModel& model, const std::string& name,
              std::vector<std::string> options = {}) {
  const fs::path to = folder.path() / name;
  const ProcessResult result = make(folder, model, to.string(), std::move(options));
  CAPTURE(result.error);
  REQUIRE(result.exit_code == 0);
  return to;
}

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = read_text(entry.path());
  return files;
}

ModelConfig config_of(const fs::path& folder) {
  return ModelConfig::parse(read_text(folder / "config.json"), "config.json");
}

/// Ids that divide nothing and repeat little.
std::vector<int> some_ids(int count, int vocab) {
  std::vector<int> ids;
  std::uint64_t state = 12345;
  for (int i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ids.push_back(static_cast<int>((state >> 33) % static_cast<std::uint64_t>(vocab)));
  }
  return ids;
}

std::vector<float> row_of(const Matrix& matrix, int row) {
  std::vector<float> values;
  const auto at = static_cast<std::size_t>(row);
  for (std::size_t i = 0; i < static_cast<std::size_t>(matrix.in); ++i) {
    const std::byte* from = matrix.weight + at * matrix.row_bytes();
    if (!matrix.quantized()) {
      REQUIRE(matrix.storage == Matrix::Storage::bf16);
      values.push_back(bf16_to_f32(load<std::uint16_t>(from + 2 * i)));
      continue;
    }
    const std::size_t group = 2 * (at * static_cast<std::size_t>(matrix.in / Matrix::group) + i / Matrix::group);
    const auto byte = static_cast<unsigned>(from[matrix.storage == Matrix::Storage::q8 ? i : i / 2]);
    const unsigned index = matrix.storage == Matrix::Storage::q8 ? byte : byte >> 4 * (i % 2) & 15u;
    values.push_back(bf16_to_f32(load<std::uint16_t>(matrix.scales + group)) * static_cast<float>(index) +
                     bf16_to_f32(load<std::uint16_t>(matrix.biases + group)));
  }
  return values;
}

struct Moments {
  double count = 0, mean = 0, deviation = 0;
};
Moments moments_of(const Matrix& matrix, int rows) {
  double sum = 0, squares = 0, count = 0;
  for (int row = 0; row < rows; ++row) {
    for (const float value : row_of(matrix, row)) {
      sum += value;
      squares += static_cast<double>(value) * value;
      ++count;
    }
  }
  return {count, sum / count, std::sqrt(squares / count)};
}

struct Hidden final : Observer {
  std::map<int, std::vector<float>> of_layer;
  void hidden(int layer, std::span<const float> values, int) override {
    of_layer[layer].insert(of_layer[layer].end(), values.begin(), values.end());
  }
};

/// How often each expert of `layer` is among the best for the rows of `stream` [tokens, hidden].
std::vector<int> choices(const LayerWeights& layer, const ModelConfig& config, std::span<const float> stream) {
  std::vector<std::vector<float>> router;
  for (int e = 0; e < config.num_experts; ++e) router.push_back(row_of(layer.router, e));
  const std::vector<float> norm = layer.post_attention_layernorm.to_f32();
  std::vector<int> chosen(router.size(), 0);
  const std::size_t hidden = norm.size();
  for (std::size_t token = 0; token < stream.size() / hidden; ++token) {
    const std::span<const float> h = stream.subspan(token * hidden, hidden);
    std::vector<std::pair<double, std::size_t>> scores;  // the root mean square is a factor of all of them
    for (std::size_t e = 0; e < router.size(); ++e) {
      double score = 0;
      for (std::size_t i = 0; i < hidden; ++i) score += static_cast<double>(h[i]) * norm[i] * router[e][i];
      scores.emplace_back(-score, e);
    }
    std::sort(scores.begin(), scores.end());
    for (int k = 0; k < config.num_experts_per_tok; ++k) ++chosen[scores[static_cast<std::size_t>(k)].second];
  }
  return chosen;
}

void check_even(const std::vector<int>& chosen, int tokens, const ModelConfig& config, int layer) {
  const double mean = static_cast<double>(tokens) * config.num_experts_per_tok / config.num_experts;
  CAPTURE(layer);
  CHECK(*std::max_element(chosen.begin(), chosen.end()) < 2.5 * mean);
  CHECK(*std::min_element(chosen.begin(), chosen.end()) > mean / 2.5);
}

TEST_CASE("a checkpoint from make-checkpoint opens, decodes finite logits and names its shards in the index") {
  const TemporaryDirectory folder;
  const fs::path to = made(folder, small_model(), "model", {"--shard-bytes", "1500000"});
  const json index = json::parse(read_text(to / "model.safetensors.index.json"));
  std::uint64_t total = 0;
  for (const ExpectedTensor& tensor : expected_tensors(config_of(to))) {
    CHECK(index["weight_map"].contains(tensor.name));
    total += tensor.bytes;
  }
  CHECK(index["metadata"]["total_size"] == total);

  Checkpoint checkpoint = Checkpoint::open(to);
  CHECK(checkpoint.tensor_bytes() == total);
  const auto engine = Engine::load(std::move(checkpoint));
  const auto session = engine->open(KvFormat::of(Backend::turboquant));
  const std::vector<int> ids = some_ids(65, engine->config().vocab_size);
  session->prefill(ids);
  for (const int id : {1, 5000, 8191}) {
    double squares = 0;
    for (const float logit : session->decode(id)) {
      REQUIRE(std::isfinite(logit));
      squares += static_cast<double>(logit) * logit;
    }
    const double deviation = std::sqrt(squares / engine->config().vocab_size);
    CHECK(deviation > 0.5);
    CHECK(deviation < 2);
  }
}

TEST_CASE("tqkv generates from a checkpoint that make-checkpoint wrote, with its own ids that end a text") {
  const TemporaryDirectory folder;
  TinyModel model = small_model();
  model.vocab = 9000;  // more rows than the tokenizer has ids
  const std::string to = made(folder, model, "model").string();
  const ProcessResult result = run_tqkv({"generate", to, "Hi", "--max-tokens", "8", "--json"});
  CAPTURE(result.error);
  CHECK(result.exit_code == 0);

  const Checkpoint checkpoint = Checkpoint::open_without_weights(to);
  const Tokenizer tokenizer = open_tokenizer(checkpoint);
  const std::vector<int> ends = {*tokenizer.control_id("<|im_end|>"), *tokenizer.control_id("<|endoftext|>")};
  CHECK(config_of(to).eos_token_ids == ends);
  CHECK(open_defaults(checkpoint, config_of(to)).stop_ids == ends);
  CHECK(open_chat(checkpoint, tokenizer).has_value());
}

TEST_CASE("headers from make-checkpoint are not padded, and data starts at odd bytes in three of four shards") {
  const TemporaryDirectory folder;
  const fs::path to = made(folder, small_model(), "model", {"--shard-bytes", "1500000"});
  int shards = 0;
  for (const auto& [name, bytes] : files_of(to)) {
    if (name.find(".safetensors") == std::string::npos || name.find("index") != std::string::npos) continue;
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < 8; ++i)
      length |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << 8 * i;
    REQUIRE(8 + length < bytes.size());
    CHECK(bytes[7 + length] == '}');
    CHECK(json::parse(bytes.substr(8, length)).contains("__metadata__"));
    CHECK((8 + length) % 2 == (shards % 4 == 2 ? 0 : 1));
    ++shards;
  }
  CHECK(shards >= 4);
}

TEST_CASE("make-checkpoint writes the same bytes for the same seed and other weights for another") {
  const TemporaryDirectory folder;
  const auto first = files_of(made(folder, small_model(), "first", {"--seed", "7"}));
  CHECK(first == files_of(made(folder, small_model(), "second", {"--seed", "7"})));
  const auto other = files_of(made(folder, small_model(), "other", {"--seed", "8"}));
  const std::string shard = "model-00001-of-00001.safetensors";
  REQUIRE(first.at(shard).size() == other.at(shard).size());
  std::size_t equal = 0;
  for (std::size_t i = 0; i < first.at(shard).size(); ++i) equal += first.at(shard)[i] == other.at(shard)[i] ? 1u : 0u;
  CHECK(static_cast<double>(equal) < 0.2 * static_cast<double>(first.at(shard).size()));
  CHECK(first.at("config.json") == other.at("config.json"));
}

TEST_CASE("make-checkpoint --layers keeps the first layers and everything else of the config") {
  const TemporaryDirectory folder;
  const TinyModel model = small_model();
  const fs::path to = made(folder, model, "model", {"--layers", "5"});
  const json before = json::parse(config_json(model)), after = json::parse(read_text(to / "config.json"));
  json expected = before;
  expected["text_config"]["num_hidden_layers"] = 5;
  expected["text_config"]["layer_types"] = {"linear_attention", "linear_attention", "linear_attention",
                                            "full_attention", "linear_attention"};
  CHECK(after == expected);
  const Checkpoint checkpoint = Checkpoint::open(to);
  CHECK(bind_weights(checkpoint, config_of(to)).layers.size() == 5);
  CHECK(checkpoint.find("language_model.model.layers.5.input_layernorm.weight") == nullptr);
}

TEST_CASE("weights from make-checkpoint have no mean and the deviation that keeps activations in range") {
  const TemporaryDirectory folder;
  const fs::path to = made(folder, small_model(), "model");
  const Checkpoint checkpoint = Checkpoint::open(to);
  const Weights weights = bind_weights(checkpoint, config_of(to));
  const auto check = [](const Matrix& matrix, double expected) {
    const Moments moments = moments_of(matrix, std::min(matrix.out, 128));
    CHECK(std::fabs(moments.mean) < 4 * expected / std::sqrt(moments.count));  // four standard errors
    CHECK(moments.deviation == doctest::Approx(expected).epsilon(0.03));
  };
  const double residual = 1 / std::sqrt(16.0);  // 2 additions to the stream in each of 8 layers
  check(weights.embed_tokens, 1);
  check(weights.lm_head, 1 / std::sqrt(256.0));
  check(weights.layers[0].delta.in_proj_qkv, 1 / std::sqrt(256.0));
  check(weights.layers[0].delta.out_proj, residual / std::sqrt(256.0));
  check(weights.layers[0].router, 1 / std::sqrt(256.0));  // 8 bits
  check(weights.layers[3].router, 1 / std::sqrt(256.0));  // 4 bits
  check(weights.layers[3].experts.down_proj.expert(15), residual / std::sqrt(64.0));
  for (const float a : weights.layers[0].delta.A_log.to_f32()) CHECK((a >= 0 && a <= std::log(16.0f)));
  for (const float dt : weights.layers[0].delta.dt_bias.to_f32()) {
    const double step = std::log1p(std::exp(static_cast<double>(dt)));
    CHECK((step > 0.0009 && step < 0.11));
  }
}

TEST_CASE("random tokens choose the experts of a checkpoint from make-checkpoint evenly in every layer") {
  const TemporaryDirectory folder;
  const fs::path to = made(folder, small_model(), "model");
  const auto engine = Engine::load(Checkpoint::open(to));
  const Weights weights = bind_weights(engine->checkpoint(), engine->config());
  const auto session = engine->open(KvFormat::of(Backend::baseline));
  Hidden hidden;
  session->observe(&hidden);
  constexpr int tokens = 512;
  session->prefill(some_ids(tokens, engine->config().vocab_size));
  // The router sees the stream between the mixer and the experts: here are the stream in front of the layer and, but
  // for the last one, which is normed, behind it.
  const int layers = engine->config().num_layers();
  for (int i = 0; i < layers; ++i) {
    const LayerWeights& layer = weights.layers[static_cast<std::size_t>(i)];
    for (const int at : {i, i + 1}) {
      double squares = 0;
      for (const float value : hidden.of_layer[at]) squares += static_cast<double>(value) * value;
      const double size = std::sqrt(squares / static_cast<double>(hidden.of_layer[at].size()));
      CHECK(size > 0.7);
      CHECK(size < 2);
      if (at < layers) check_even(choices(layer, engine->config(), hidden.of_layer[at]), tokens, engine->config(), i);
    }
  }
}

TEST_CASE("make-checkpoint writes dense models with tied embeddings and models that are not quantized") {
  TinyModel model = small_model();
  model.experts = 0;
  model.tied = true;
  for (const int bits : {4, 0}) {
    CAPTURE(bits);
    const TemporaryDirectory folder;
    model.bits = bits;
    model.module_bits.clear();
    const auto engine = Engine::load(Checkpoint::open(made(folder, model, "model")));
    const auto session = engine->open(KvFormat::of(Backend::baseline));
    const std::span<const float> logits = session->prefill(some_ids(7, 8192));
    double squares = 0;
    for (const float logit : logits) squares += static_cast<double>(logit) * logit;
    CHECK(std::sqrt(squares / 8192) == doctest::Approx(1).epsilon(0.3));
  }
}

/// Checks the exit code and the one line, and that `to` is not there.
void check_refused(const ProcessResult& result, int exit_code, const std::vector<std::string>& parts,
                   const fs::path& to) {
  CAPTURE(result.error);
  CHECK(result.exit_code == exit_code);
  CHECK(std::count(result.error.begin(), result.error.end(), '\n') == 1);
  for (const std::string& part : parts) CHECK(contains(result.error, part));
  CHECK_FALSE(fs::exists(to));
}

TEST_CASE("make-checkpoint refuses layers that the config lacks, bad configs and unknown options") {
  const TemporaryDirectory folder;
  const fs::path to = folder.path() / "model";
  const TinyModel model = small_model();
  check_refused(make(folder, model, to.string(), {"--layers", "9"}), 2,
                {"make-checkpoint: [usage] --layers 9:", "has 8 layers, expected 1 to 8"}, to);
  check_refused(make(folder, model, to.string(), {"--layers", "0"}), 2, {"make-checkpoint: [usage] --layers:"}, to);
  check_refused(make(folder, model, to.string(), {"--depth", "3"}), 2, {"make-checkpoint: [usage] ", "--depth"}, to);
  check_refused(run({test::make_checkpoint_program(), folder.write("bad.json", "{"), to.string()}), 1,
                {"make-checkpoint: [config] ", "bad.json"}, to);
  check_refused(run({test::make_checkpoint_program(), (folder.path() / "none.json").string(), to.string()}), 1,
                {"make-checkpoint: [io] ", "none.json"}, to);
  TinyModel few = model;
  few.vocab = 320;
  check_refused(make(folder, few, to.string()), 1, {"[config]", "vocab_size is 320", "8192 ids"}, to);
}

TEST_CASE("make-checkpoint refuses a folder that holds something and leaves it as it is") {
  const TemporaryDirectory folder;
  const std::string kept = folder.write("model/notes.txt", "kept");
  const ProcessResult result = make(folder, small_model(), (folder.path() / "model").string());
  CHECK(result.exit_code == 1);
  CHECK(contains(result.error, "make-checkpoint: [io] "));
  CHECK(contains(result.error, "is not empty"));
  CHECK(files_of(folder.path() / "model") == std::map<std::string, std::string>{{"notes.txt", "kept"}});
  CHECK(contains(make(folder, small_model(), kept).error, "is a file"));
}

TEST_CASE("make-checkpoint refuses before writing when the disk is too small") {
  TinyModel model = small_model();
  model.hidden = model.moe_intermediate = 1 << 17;  // 10^16 bytes
  model.experts = 4096;
  model.layers = 100;
  const TemporaryDirectory folder;
  check_refused(make(folder, model, (folder.path() / "a" / "model").string()), 1,
                {"make-checkpoint: [io] ", "bytes are needed, but its disk has ", " free"}, folder.path() / "a");
}

TEST_CASE("make-checkpoint removes what it wrote when a file cannot be completed") {
  const TemporaryDirectory folder;
  const std::string config = folder.write("config.json", config_json(small_model()));
  const std::string to = (folder.path() / "a" / "model").string();
  const ProcessResult result = run({"/bin/bash", "-c", "ulimit -f 1400 && exec \"$0\" \"$@\"",
                                    test::make_checkpoint_program(), config, to, "--shard-bytes", "1500000"});
  CHECK(contains(result.output, "model-00001-of-"));  // the first shards fit
  check_refused(result, 1, {"make-checkpoint: [io] ", "cannot be written"}, folder.path() / "a");
}

TEST_CASE("make-checkpoint removes what it wrote when it is interrupted") {
  TinyModel model = small_model();
  model.layers = 60;
  model.experts = 2;
  const TemporaryDirectory folder;
  const fs::path to = folder.path() / "model";
  // A shard a tensor: the lines about them fill the pipe more than twice before the last one is written.
  const std::vector<std::string> command = {test::make_checkpoint_program(),
                                            folder.write("config.json", config_json(model)), to.string(),
                                            "--shard-bytes", "1"};
  ProcessOptions options;
  options.interrupt_at_output = true;
  check_refused(run(command, options), 130, {"make-checkpoint: interrupted"}, to);
}

}  // namespace
