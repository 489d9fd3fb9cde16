// The evaluation of the bundled model, short.
#include <doctest/doctest.h>

#include <map>
#include <memory>

#include "base/file.h"
#include "measure/agreement/evaluate.h"
#include "support/places.h"
#include "support/sanitized.h"
#include "tqkv/model.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::measure;

namespace {

class Pocket {
 public:
  const Engine& operator()(Precision precision) {
    std::unique_ptr<Engine>& engine = engines_[precision];
    if (!engine) {
      DeviceOptions device;
      device.precision = precision;
      engine = Engine::load(Checkpoint::open(test::source_dir() + "/models/pocket"), device);
    }
    return *engine;
  }

 private:
  std::map<Precision, std::unique_ptr<Engine>> engines_;
};

}  // namespace

TEST_CASE("on the pocket model baseline equals itself and coarser codes lose more" * doctest::skip(test::sanitized)) {
  Pocket pocket;
  const Checkpoint& checkpoint = pocket(Precision::fast).checkpoint();
  const Tokenizer tokenizer = open_tokenizer(checkpoint);
  EvaluationModel model;
  model.name = "pocket";
  model.config = pocket(Precision::fast).config();
  model.fingerprint = model_fingerprint(checkpoint);
  model.tokenizer = &tokenizer;
  model.chat = open_chat(checkpoint, tokenizer);
  model.stop_ids = open_defaults(checkpoint, model.config).stop_ids;
  EvaluateOptions options = evaluate_preset("quick", model.config.max_position_embeddings);
  for (const char* format : {"baseline", "turboquant:bits=4", "turboquant:bits=2"})
    options.formats.push_back(KvFormat::parse(format));
  options.tokens = 200;
  options.recall_options.lengths = {256};
  options.recall_options.tasks = {RecallTask::needle, RecallTask::table};
  options.recall_options.answers = 8;
  options.recall_options.questions = 3;
  const std::string text = read_text(test::source_dir() + "/models/pocket/README.md");
  Evaluator evaluator(std::move(model), {"README", text}, options);
  const Evaluation& evaluation = evaluator.run([&](Precision precision) -> const Engine& { return pocket(precision); });

  REQUIRE(evaluation.runs.size() == 3);
  const auto all = [&](std::size_t run) { return evaluation.runs[run].agreement->all; };
  CHECK(all(0).kl.max < 1e-9);
  CHECK(all(0).same_top == 1);
  CHECK(all(0).ratio == doctest::Approx(1).epsilon(1e-9));
  CHECK(all(1).kl.mean > 1e-5);
  CHECK(all(1).kl.mean < 0.1);
  CHECK(all(2).kl.mean > 2 * all(1).kl.mean);
  CHECK(evaluation.runs[1].agreement->decode->kl.mean > 0);
  CHECK(evaluation.runs[0].effective == "baseline:bits=32");
  CHECK(evaluation.runs[0].k_bits == 16);
  REQUIRE(evaluation.noise.size() == 3);
  CHECK(evaluation.noise[0].agreement.all.kl.mean < 1e-6);  // f32, other chunks
  CHECK(evaluation.noise[1].agreement.all.kl.mean < 0.02);  // fast path, few rows
  CHECK(evaluation.noise[1].agreement.all.kl.mean > 0);

  const RecallResult& reference = *evaluation.reference.recall;
  CHECK(reference.total.asked == 8);
  CHECK(reference.total.right >= 7);
  for (const EvaluationRun& run : evaluation.runs) {
    REQUIRE(run.recall.has_value());
    const PairedDifference& paired = run.recall->paired;
    CHECK(run.recall->total.right == reference.total.right - paired.only_reference + paired.only_this);
    CHECK(paired.points == doctest::Approx(100.0 * (paired.only_this - paired.only_reference) / 8));
  }
  CHECK(evaluation.runs[0].recall->answers == reference.answers);
}
