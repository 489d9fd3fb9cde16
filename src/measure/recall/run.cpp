#include "measure/recall/run.h"

#include <algorithm>
#include <memory>

#include "tqkv/generate.h"

namespace tqkv::measure {
namespace {

std::vector<int> ask_one(const RecallRun& run, const KvFormat& format, const PreparedContext& context) {
  SessionOptions options = run.session;
  options.context = longest_session({&context, 1}, run.match);
  const std::unique_ptr<Session> session = run.engine.open(format, options);
  session->prefill(context.ids);
  const std::unique_ptr<Snapshot> asked_from = session->snapshot();
  std::vector<int> right;
  for (const PreparedQuestion& question : context.questions) {
    session->restore(*asked_from);
    GenerateOptions generation;
    generation.sampling.greedy = true;
    generation.stop_ids.assign(run.stop_ids.begin(), run.stop_ids.end());
    generation.max_tokens = answer_limit(question, run.match);
    const GenerateResult result = generate(*session, run.tokenizer, question.ids, generation);
    right.push_back(is_right(question.text, result.answer, run.match) ? 1 : 0);
  }
  return right;
}

}  // namespace

std::vector<std::vector<int>> ask_all(const RecallRun& run, const KvFormat& format,
                                      const std::vector<PreparedContext>& contexts) {
  std::vector<std::vector<int>> answers;
  for (const PreparedContext& context : contexts) {
    if (run.progress) run.progress(static_cast<int>(answers.size()), static_cast<int>(contexts.size()));
    answers.push_back(ask_one(run, format, context));
  }
  return answers;
}

}  // namespace tqkv::measure
