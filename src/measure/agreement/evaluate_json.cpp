#include "measure/agreement/evaluate_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "measure/agreement/agreement.h"
#include "measure/files/evaluation_fields.h"
#include "measure/files/measured.h"
#include "measure/recall/score.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json names_of(const std::vector<T>& values) {
  Json list = Json::array();
  for (const T value : values) list.push_back(name(value));
  return list;
}

int questions_of(const Evaluation& evaluation) {
  int count = 0;
  for (const RecallContext& context : evaluation.contexts) count += context.questions;
  return count;
}

// All that the figures depend on, but for the model and the machine.
Json settings_of(const Evaluation& evaluation) {
  const EvaluateOptions& options = evaluation.options;
  Json settings = {{"preset", options.preset},
                   {"precision", names_of(options.precisions)},
                   {"recall_precision", name(options.recall_precision)},
                   {"state", name(options.state)},
                   {"prefill_chunk", options.prefill_chunk},
                   {"agreement", options.agreement},
                   {"noise_floor", options.noise_floor},
                   {"recall", options.recall},
                   {"text", evaluation.text},
                   {"text_digest", evaluation.text_digest},
                   {"tokens_asked", options.tokens},
                   {"tokens", evaluation.tokens},
                   {"decode_from", evaluation.decode_from},
                   {"position_edges", position_edges()},
                   {"seed", options.recall_options.seed}};
  if (!options.recall) return settings;
  const RecallOptions& recall = options.recall_options;
  settings["recall_lengths"] = recall.lengths;
  settings["recall_depths"] = recall.depths;
  settings["recall_tasks"] = names_of(recall.tasks);
  settings["recall_answers"] = questions_of(evaluation);
  settings["recall_questions"] = recall.questions;
  settings["recall_match"] = name(recall.match);
  settings["recall_digest"] = evaluation.recall_digest;
  return settings;
}

// The figures follow from the answers, of which there must be one to every question of this run.
void score_again(RecallResult& recall, const Evaluation& evaluation, const std::vector<std::vector<int>>& reference,
                 const std::string& place) {
  bool fits = recall.answers.size() == evaluation.contexts.size();
  for (std::size_t i = 0; fits && i < recall.answers.size(); ++i)
    fits = recall.answers[i].size() == static_cast<std::size_t>(evaluation.contexts[i].questions);
  if (!fits) throw Error(ErrorKind::input, place + ": its answers are not one to every question of every context");
  score(recall, evaluation.contexts, evaluation.options.recall_options.depths, reference);
}

}  // namespace

void take_finished(Evaluation& into, const std::string& file, std::string_view text) {
  const MeasuredFile before = read_resumed(file, text, {"evaluation", "evaluate", into, settings_of(into)});
  EvaluationFigures figures;
  take(before.top(), figures);
  if (figures.reference.recall) {
    const std::vector<std::vector<int>> answers = figures.reference.recall->answers;
    score_again(*figures.reference.recall, into, answers, file + ": reference.recall");
  }
  for (std::size_t i = 0; i < figures.runs.size(); ++i) {
    EvaluationRun& run = figures.runs[i];
    const std::string place = fmt::format("{}: runs[{}]", file, i);
    try {
      run.format = KvFormat::parse(run.format).canonical();
    } catch (const Error& error) {
      throw Error(ErrorKind::input, fmt::format("{}.format: {}", place, error.what()));
    }
    if (run.agreement) figures.reference.perplexity = run.agreement->all.reference_perplexity;
    if (!run.recall) continue;
    if (!figures.reference.recall) throw Error(ErrorKind::input, place + " has recall, but the reference has none");
    score_again(*run.recall, into, figures.reference.recall->answers, place + ".recall");
  }
  into.reference.perplexity = figures.reference.perplexity;
  into.reference.recall = std::move(figures.reference.recall);
  into.noise = std::move(figures.noise);
  into.codec = std::move(figures.codec);
  into.runs = std::move(figures.runs);
  const std::string& command = before.measured().command;
  if (!command.empty() && command != into.command) into.command = command + "; " + into.command;
}

std::string to_json(const Evaluation& evaluation) {
  Json json = header_json("evaluation", evaluation, settings_of(evaluation));
  json.update(JsonWriter::json_of<EvaluationFigures>(evaluation));
  return file_text(json, 1);
}

}  // namespace tqkv::measure
