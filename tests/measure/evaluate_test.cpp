#include "measure/agreement/evaluate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/checksum.h"
#include "base/file.h"
#include "loaders/locate.h"
#include "loaders/safetensors.h"
#include "measure/benchmark/benchmark.h"
#include "measure/fake_engine.h"
#include "support/failure.h"
#include "support/places.h"
#include "support/process.h"
#include "tqkv/model.h"

using namespace tqkv;
using namespace tqkv::measure;
using nlohmann::json;
using test::contains;
using test::failure;
using test::FakeEngine;

namespace {

const std::string pocket = test::source_dir() + "/models/pocket";

// Everything of a model but its weights.
struct FakeModel {
  FakeEngine engine{pocket};
  Tokenizer tokenizer = open_tokenizer(engine.checkpoint());
  EvaluationModel model() const {
    EvaluationModel model;
    model.name = "fake";
    model.config = engine.config();
    model.fingerprint = "0123456789abcdef";
    model.tokenizer = &tokenizer;
    model.chat = open_chat(engine.checkpoint(), tokenizer);
    model.stop_ids = open_defaults(engine.checkpoint(), engine.config()).stop_ids;
    return model;
  }
  Evaluator::EngineSource engines() const {
    return [this](Precision) -> const Engine& { return engine; };
  }
};

std::string some_text() {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "Sentence " + std::to_string(i) + " says something about caches and keys.\n";
  return text;
}

EvaluateOptions options_of(std::vector<const char*> formats) {
  EvaluateOptions options = evaluate_preset("quick", 32768);
  for (const char* format : formats) options.formats.push_back(KvFormat::parse(format));
  options.tokens = 96;
  options.prefill_chunk = 32;
  options.noise_floor = false;
  options.recall_options.lengths = {300};
  options.recall_options.tasks = {RecallTask::needle, RecallTask::pairs};
  options.recall_options.answers = 8;
  options.recall_options.questions = 3;
  return options;
}

Evaluator evaluator_of(const FakeModel& model, const EvaluateOptions& options) {
  return Evaluator(model.model(), {"a text", some_text()}, options);
}

}  // namespace

TEST_CASE("every cache is fed the same ids, first in chunks and then one by one") {
  const FakeModel model;
  EvaluateOptions options = options_of({"turboquant", "mlx_quant"});
  options.recall = false;
  options.decode_from = 80;
  Evaluator evaluator = evaluator_of(model, options);
  const Evaluation& evaluation = evaluator.run(model.engines());
  const auto& events = model.engine.log.events;
  CHECK(std::count(events.begin(), events.end(), "baseline prefill 0+80") == 1);
  CHECK(std::count(events.begin(), events.end(), "turboquant prefill 0+80") == 1);
  CHECK(std::count(events.begin(), events.end(), "mlx_quant prefill 0+80") == 1);
  REQUIRE(model.engine.log.fed.size() == 3);
  CHECK(model.engine.log.fed[0].size() == 95);  // the last id has no next one
  CHECK(model.engine.log.fed[1] == model.engine.log.fed[0]);
  CHECK(model.engine.log.fed[2] == model.engine.log.fed[0]);
  CHECK(model.engine.log.most_alive == 1);
  REQUIRE(evaluation.runs.size() == 2);
  CHECK(evaluation.runs[0].agreement->all.rows == 95);
  CHECK(evaluation.runs[0].agreement->prefill->rows == 80);
  CHECK(evaluation.runs[0].agreement->decode->rows == 15);
  CHECK(evaluation.runs[0].agreement->all.kl.mean > 0.01);  // the fake cache likes a neighbour as well
  CHECK(evaluation.runs[0].agreement->all.same_top == 1);
  CHECK(evaluation.runs[0].k_bits == doctest::Approx(4.0625));
  CHECK(evaluation.runs[0].bytes_per_token == 1040);  // 2 layers, 2 heads, keys and values, 130 bytes each
  CHECK(evaluation.runs[1].bytes_per_token == 1152);
  for (const EvaluationRun& run : evaluation.runs)
    CHECK(run.bytes_per_token == cache::bytes_per_token(model.engine.config(), KvFormat::parse(run.format)));
  CHECK_FALSE(evaluation.runs[0].recall.has_value());
}

TEST_CASE("the baseline against itself has no distance, measured and not assumed") {
  const FakeModel model;
  EvaluateOptions options = options_of({"baseline"});
  options.recall = false;
  Evaluator evaluator = evaluator_of(model, options);
  const AgreementPart all = evaluator.run(model.engines()).runs.at(0).agreement->all;
  CHECK(all.kl.max == doctest::Approx(0).epsilon(1e-12));
  CHECK(all.same_top == 1);
  CHECK(all.ratio == 1);
  CHECK(std::count(model.engine.log.events.begin(), model.engine.log.events.end(), "baseline open") == 2);
}

TEST_CASE("fast precision has the fast baseline beside it, and recall stands in the first row of a format") {
  const FakeModel model;
  EvaluateOptions options = options_of({"turboquant"});
  options.precisions = {Precision::f32, Precision::fast};
  Evaluator evaluator = evaluator_of(model, options);
  const Evaluation& evaluation = evaluator.run(model.engines());
  REQUIRE(evaluation.runs.size() == 3);
  CHECK(evaluation.runs[0].format == KvFormat::of(Backend::baseline).canonical());
  CHECK(evaluation.runs[0].precision == Precision::fast);
  CHECK_FALSE(evaluation.runs[0].recall.has_value());
  CHECK(evaluation.runs[1].precision == Precision::f32);
  CHECK(evaluation.runs[1].recall.has_value());
  CHECK(evaluation.runs[2].precision == Precision::fast);
  CHECK_FALSE(evaluation.runs[2].recall.has_value());
}

TEST_CASE("a context is prefilled once for all its questions") {
  const FakeModel model;
  EvaluateOptions options = options_of({"turboquant"});
  options.agreement = false;
  Evaluator evaluator = evaluator_of(model, options);
  const Evaluation& evaluation = evaluator.run(model.engines());
  REQUIRE(evaluation.contexts.size() == 2);
  CHECK(evaluation.contexts[0].tokens == 300);
  const auto& events = model.engine.log.events;
  const auto starting = [&](const std::string& beginning) {
    return std::count_if(events.begin(), events.end(),
                         [&](const std::string& event) { return event.starts_with(beginning); });
  };
  CHECK(starting("turboquant prefill 0+") == 2);
  CHECK(starting("turboquant restore ") == 8);
  REQUIRE(evaluation.runs.size() == 1);
  CHECK(evaluation.runs[0].recall->total.asked == 8);
  CHECK(evaluation.runs[0].recall->total.right == 0);  // the fake knows nothing
  CHECK(evaluation.runs[0].recall->needle.size() == 5);
  CHECK(evaluation.reference.recall->total.asked == 8);
  CHECK_FALSE(evaluation.runs[0].agreement.has_value());
}

TEST_CASE("the noise floor compares the baseline with itself in other chunks and on the fast path") {
  const FakeModel model;
  EvaluateOptions options = options_of({"turboquant"});
  options.recall = false;
  options.noise_floor = true;
  Evaluator evaluator = evaluator_of(model, options);
  const Evaluation& evaluation = evaluator.run(model.engines());
  REQUIRE(evaluation.noise.size() == 3);
  for (const NoiseFloor& noise : evaluation.noise) {
    CHECK(noise.of == "baseline:bits=16");
    CHECK(noise.agreement.all.rows == 95);
    CHECK(noise.agreement.all.kl.max == doctest::Approx(0).epsilon(1e-12));
  }
  CHECK(evaluation.noise[0].of_chunk == 8);
  CHECK(evaluation.noise[0].against_chunk == 32);
  CHECK(evaluation.noise[1].of_precision == Precision::fast);
  CHECK(evaluation.noise[1].against_precision == Precision::f32);
}

TEST_CASE("an evaluation goes on behind the runs of its file and ends with the same file") {
  const FakeModel whole_model, first_model, second_model;
  const std::vector<const char*> formats = {"baseline", "turboquant", "mlx_quant"};
  EvaluateOptions options = options_of(formats);
  options.noise_floor = true;
  options.command = "the command";
  Evaluator whole = evaluator_of(whole_model, options);
  json expected = json::parse(to_json(whole.run(whole_model.engines())));

  std::string after_two;
  Evaluator first = evaluator_of(first_model, options);
  Evaluator::Callbacks callbacks;
  callbacks.finished = [&](const Evaluation& so_far, const EvaluationRun&) {
    if (so_far.runs.size() == 2) after_two = to_json(so_far);
  };
  first.run(first_model.engines(), callbacks);
  Evaluator second = evaluator_of(second_model, options);
  second.resume("half.json", after_two, second_model.engine.device());
  CHECK(second.evaluation().runs.size() == 2);
  CHECK(to_json(second.evaluation()) == after_two);
  json resumed = json::parse(to_json(second.run(second_model.engines())));

  const auto& events = second_model.engine.log.events;
  CHECK(std::count(events.begin(), events.end(), "turboquant open") == 0);
  CHECK(std::count(events.begin(), events.end(), "mlx_quant open") == 3);
  CHECK(std::count(events.begin(), events.end(), "baseline open") == 1);  // the reference logits, nothing else
  for (json* one : {&expected, &resumed}) {
    (*one)["reference"]["recall"].erase("seconds");
    for (json& run : (*one)["runs"]) {
      run.erase("seconds");
      run["recall"].erase("seconds");
    }
  }
  CHECK(resumed == expected);
}

TEST_CASE("a file of other settings, of another model or of no evaluation is not gone on with") {
  const FakeModel model;
  const EvaluateOptions options = options_of({"turboquant"});
  Evaluator begun = evaluator_of(model, options);
  const json file = json::parse(to_json(begun.run(model.engines())));
  const auto refused = [&](const json& changed) {
    Evaluator evaluator = evaluator_of(model, options);
    const std::string message =
        failure(ErrorKind::input, [&] { evaluator.resume("half.json", changed.dump(), model.engine.device()); });
    CHECK(contains(message, "half.json"));
    CHECK(evaluator.evaluation().runs.empty());
    return message;
  };
  const auto with = [&](const char* pointer, const json& value) {
    json changed = file;
    changed[json::json_pointer(pointer)] = value;
    return changed;
  };
  CHECK(contains(refused(with("/settings/tokens", 95)), "tokens was 95, now it is 96"));
  CHECK(contains(refused(with("/settings/text_digest", "x")), "text_digest"));
  CHECK(contains(refused(with("/settings/precision", {"fast"})), "precision"));
  CHECK(contains(refused(with("/settings/recall_digest", "y")), "recall_digest"));
  CHECK(contains(refused(with("/model/fingerprint", "y")), "fingerprint"));
  CHECK(contains(refused(with("/machine/device", "cpu:isa=avx512:threads=1")), "device"));
  refused(with("/kind", "benchmark"));
  refused(with("/schema", 2));
  refused(with("/runs/0/format", "no_such_format"));
  refused(with("/runs/0/agreement/all/kl/mean", "0.1"));
  refused(with("/runs/0/recall/answers/0", {1, 0}));
  refused(with("/runs/0/recall/answers/0/0", 2));
  refused(with("/runs/0/agreement", {1, 2}));
  refused(with("/runs", 3));
  refused(json::array());
  json without = file;
  without.erase("settings");
  refused(without);
  Evaluator good = evaluator_of(model, options);
  good.resume("half.json", file.dump(), model.engine.device());
  CHECK(good.evaluation().runs.size() == 1);
}

TEST_CASE("a text is used as long as it is; fewer than two tokens are refused") {
  const FakeModel model;
  EvaluateOptions options = options_of({"turboquant"});
  options.recall = false;
  const auto tokens_of = [&](const std::string& text) {
    Evaluator evaluator(model.model(), {"text.txt", text}, options);
    return evaluator.evaluation().tokens;
  };
  CHECK(tokens_of(some_text()) == 96);
  CHECK(tokens_of("Hello there, world") < 10);
  Evaluator two(model.model(), {"text.txt", "A B"}, options);
  CHECK(two.evaluation().tokens == 2);
  const Evaluation& evaluation = two.run(model.engines());
  CHECK(evaluation.runs[0].agreement->all.rows == 1);
  CHECK_FALSE(evaluation.runs[0].agreement->all.kl.se.has_value());
  CHECK_FALSE(evaluation.runs[0].agreement->decode.has_value());
  const json file = json::parse(to_json(evaluation));
  CHECK(file["runs"][0]["agreement"]["all"]["kl"]["se"].is_null());
  CHECK(file["settings"]["tokens"] == 2);
  CHECK(file["settings"]["tokens_asked"] == 96);
  CHECK(contains(to_table(evaluation), "2 tokens (all it has; 96 were asked)"));
  const std::string message = failure(ErrorKind::input, [&] { tokens_of(""); });
  CHECK(contains(message, "text.txt: the text has 0 tokens"));
  const Evaluator binary(model.model(), {"text.bin", std::string("\xff\xfe caches \x80 and keys", 20)}, options);
  CHECK(binary.replaced() == 3);
}

TEST_CASE("the text used when none is given is bundled and never changes") {
  const auto file = locate_evaluation_text();
  CHECK(std::filesystem::equivalent(file, test::source_dir() + "/models/texts/documents.txt"));
  const std::string text = read_text(file);
  CHECK(text.size() == 123'597);
  // Another text would make figures of different versions incomparable: never change it, add a second one.
  CHECK(checksum_128(std::as_bytes(std::span(text))) == "5f63add0f5b435c04528512a6dd063c0");
}

TEST_CASE("settings that make no sense are refused before anything runs") {
  const FakeModel model;
  const auto refused = [&](const auto& change) {
    EvaluateOptions options = options_of({"turboquant"});
    change(options);
    return failure(ErrorKind::usage, [&] { evaluator_of(model, options); });
  };
  refused([](EvaluateOptions& options) { options.formats.clear(); });
  refused([](EvaluateOptions& options) { options.formats.push_back(options.formats[0]); });
  refused([](EvaluateOptions& options) { options.agreement = options.recall = options.codec_level = false; });
  refused([](EvaluateOptions& options) {
    options.agreement = false;
    options.capture = "kv.safetensors";
  });
  refused([](EvaluateOptions& options) { options.tokens = 1; });
  refused([](EvaluateOptions& options) { options.tokens = 32769; });
  refused([](EvaluateOptions& options) { options.decode_from = 97; });
  refused([](EvaluateOptions& options) { options.precisions = {Precision::f32, Precision::f32}; });
  refused([](EvaluateOptions& options) { options.recall_options.depths = {1.5}; });
  refused([](EvaluateOptions& options) { options.recall_options.lengths = {300, 300}; });
  const std::string message = refused([](EvaluateOptions& options) { options.recall_options.lengths = {32768}; });
  CHECK(contains(message, "at most 32768"));
  failure(ErrorKind::usage, [] { evaluate_preset("slow", 4096); });
  EvaluationModel mute = model.model();
  mute.chat.reset();
  failure(ErrorKind::chat, [&] { Evaluator(mute, {"a text", some_text()}, options_of({"turboquant"})); });
  CHECK(model.engine.log.events.empty());
}

TEST_CASE("a preset asks no more than the model holds") {
  const EvaluateOptions quick = evaluate_preset("quick", 32768), study = evaluate_preset("study", 32768);
  CHECK(quick.tokens == 4096);
  CHECK(quick.recall_options.lengths == std::vector<int>{1024, 2048, 4096});
  CHECK(quick.recall_options.answers >= 64);
  CHECK(study.tokens == 8192);
  CHECK(study.recall_options.lengths == std::vector<int>{1024, 4096, 8192, 16384});
  CHECK(study.recall_options.answers >= 500);
  CHECK(evaluate_preset("study", 262'144).recall_options.lengths.back() == 32768);
  const EvaluateOptions tiny = evaluate_preset("quick", 512);
  CHECK(tiny.tokens == 512);
  CHECK(tiny.recall_options.lengths == std::vector<int>{256});
}

TEST_CASE("keys and values of the text are captured whole, and a sample of them meets every codec") {
  const FakeModel model;
  const test::TemporaryDirectory folder;
  EvaluateOptions options = options_of({"turboquant", "turboquant:k=3:v=2"});
  options.recall = false;
  options.capture = folder.path() / "kv.safetensors";
  Evaluator evaluator = evaluator_of(model, options);
  const Evaluation& evaluation = evaluator.run(model.engines());

  const MappedFile file(options.capture);
  const auto entries = parse_safetensors(file.bytes(), "kv");
  REQUIRE(entries.size() == 5);
  CHECK(entries[0].name == "layers.3.keys");
  CHECK(entries[3].name == "layers.7.values");
  CHECK(entries[4].name == "ids");
  CHECK(entries[4].end == file.bytes().size());
  std::vector<std::int32_t> ids(95);
  std::memcpy(ids.data(), file.bytes().data() + entries[4].begin, 4 * ids.size());
  CHECK(std::equal(ids.begin(), ids.end(), model.engine.log.fed.at(0).begin(), model.engine.log.fed.at(0).end()));
  for (std::size_t entry = 0; entry < 4; ++entry) {
    CHECK(entries[entry].shape == std::vector<std::int64_t>{95, 2, 256});
    std::vector<float> values(95 * 2 * 256);
    std::memcpy(values.data(), file.bytes().data() + entries[entry].begin, 4 * values.size());
    const float sign = entry % 2 == 0 ? 1.0f : -1.0f;
    for (const int token : {0, 31, 32, 94}) {
      for (const int head : {0, 1}) {
        CAPTURE(token);
        CHECK(values[static_cast<std::size_t>(token * 2 + head) * 256 + 255] ==
              sign * test::key_of(token, ids[static_cast<std::size_t>(token)], head));
      }
    }
  }

  // Sides alike: one row for made vectors, one for each kind of captured ones; else rows for K and for V.
  REQUIRE(evaluation.codec.size() == 4 + 6);
  CHECK(evaluation.codec[2].input == "captured K");
  CHECK(evaluation.codec[2].side == "K");
  CHECK(evaluation.codec[2].count == 2 * 2 * 95);
  CHECK(evaluation.codec[3].side == "V");
  CHECK(evaluation.codec[4].side == "K");
  CHECK(evaluation.codec[4].bits_per_value == doctest::Approx(3.0625));
  CHECK(evaluation.codec[9].side == "V");
  CHECK(evaluation.codec[9].bits_per_value == doctest::Approx(2.0625));
  CHECK(contains(to_table(evaluation), "captured V"));
}

TEST_CASE("a long text is sampled evenly") {
  const FakeModel model;
  EvaluateOptions options = options_of({"turboquant"});
  options.recall = false;
  options.tokens = 502;
  Evaluator evaluator = evaluator_of(model, options);
  CHECK(evaluator.run(model.engines()).codec.at(2).count == 2 * 2 * 256);
}

TEST_CASE("single vectors alone need no forward pass") {
  const FakeModel model;
  EvaluateOptions options = options_of({"baseline", "turboquant"});
  options.recall = options.agreement = false;
  Evaluator evaluator = evaluator_of(model, options);
  CHECK_FALSE(evaluator.plans(1 << 20, {}).empty());
  const Evaluation& evaluation = evaluator.run(model.engines());
  CHECK(evaluation.codec.size() == 4);
  CHECK(evaluation.codec[0].distortion < 1e-5);
  CHECK(evaluation.codec[2].distortion == doctest::Approx(0.0095).epsilon(0.05));
  const auto& events = model.engine.log.events;
  CHECK(
      std::none_of(events.begin(), events.end(), [](const std::string& event) { return contains(event, "prefill"); }));
  Evaluator without = evaluator_of(model, [&] {
    EvaluateOptions none = options_of({"turboquant"});
    none.recall = none.codec_level = false;
    return none;
  }());
  CHECK(without.run(model.engines()).codec.empty());
}

TEST_CASE("the table fits a terminal and names what was measured") {
  const FakeModel model;
  EvaluateOptions options = options_of({"baseline", "turboquant", "turboquant:bits=3", "mlx_quant"});
  options.noise_floor = true;
  Evaluator evaluator = evaluator_of(model, options);
  const std::string table = to_table(evaluator.run(model.engines()));
  for (const char* part : {"turboquant 4", "turboquant 3", "mlx_quant", "4.06", "3.06", "needle", "pairs", "asked",
                           "noise floor of baseline", "chunks of 8", "+0.0 (", "distortion of vectors", "captured K"})
    CHECK(contains(table, part));
  std::size_t start = table.find("\n\n");
  for (std::size_t end; (end = table.find('\n', start + 1)) != std::string::npos; start = end)
    CHECK(end - start - 1 <= 110);
  CHECK(contains(summary_line(evaluator.evaluation().runs[1]), "mean KL"));
}

TEST_CASE("memory plans cover the agreement and the longest question of every row") {
  const FakeModel model;
  EvaluateOptions options = options_of({"turboquant"});
  options.recall_options.lengths = {300, 900};
  const auto plans = evaluator_of(model, options).plans(1'000'000, {});
  REQUIRE(plans.size() == 4);  // turboquant and the reference, each with agreement and recall
  CHECK(plans[0].context == 95);
  CHECK(plans[0].precision == Precision::f32);
  CHECK(plans[1].context > 900);
  CHECK(plans[1].precision == Precision::fast);
  CHECK(plans[1].snapshots > 0);
}
