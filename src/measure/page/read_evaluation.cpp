#include <fmt/format.h>

#include <algorithm>

#include "measure/files/evaluation_fields.h"
#include "measure/page/read.h"

namespace tqkv::measure {

void add_evaluation(const MeasuredFile& file, const Source& source, ReportData& data) {
  const JsonObject settings = file.settings();
  EvaluationGroup fresh;
  fresh.model = source.model;
  fresh.cpu = source.processor();
  fresh.device = device_bits(source);
  fresh.text = settings.text_or("text", "");
  fresh.recall_precision = settings.text_or("recall_precision", "");
  fresh.tokens = settings.count_or("tokens", 0);
  fresh.decode_from = settings.count_or("decode_from", 0);
  fresh.text_tokens = settings.count_or("text_tokens", 0);
  // Model, machine and what they were given: the runs of two files stand together when all of it is the same.
  fresh.key = {source.fingerprint, fresh.cpu, fresh.device};
  for (const char* name :
       {"text_digest", "tokens", "decode_from", "prefill_chunk", "state", "recall_precision", "seed", "recall_lengths",
        "recall_depths", "recall_tasks", "recall_answers", "recall_match", "recall_digest"})
    fresh.key.push_back(settings.words_or(name, ""));
  EvaluationFigures figures;
  take(file.top(), figures);
  CapturedRuns captured;
  take(file.top(), captured);
  fresh.reference_perplexity = figures.reference.perplexity;
  fresh.reference_recall = std::move(figures.reference.recall);
  fresh.noise = std::move(figures.noise);
  for (EvaluationRun& run : figures.runs) fresh.runs.push_back({std::move(run), source.file, ""});
  for (CodecFigures& entry : figures.codec) fresh.codec.push_back({std::move(entry), ""});
  for (CapturedFigures& entry : captured.figures) fresh.captured.push_back({std::move(entry), ""});
  if (fresh.runs.empty() && fresh.codec.empty() && fresh.captured.empty()) refuse_file(source.file, "contains no runs");
  fresh.files = {source.file};
  fresh.title =
      fmt::format("{}, {} ({} tokens)", fresh.model, fresh.text.empty() ? "a text" : fresh.text, fresh.tokens);

  const auto same = std::find_if(data.evaluations.begin(), data.evaluations.end(),
                                 [&](const EvaluationGroup& other) { return other.key == fresh.key; });
  if (same == data.evaluations.end()) {
    data.evaluations.push_back(std::move(fresh));
    return;
  }
  same->files.push_back(source.file);
  same->runs.insert(same->runs.end(), fresh.runs.begin(), fresh.runs.end());
  same->codec.insert(same->codec.end(), fresh.codec.begin(), fresh.codec.end());
  same->captured.insert(same->captured.end(), fresh.captured.begin(), fresh.captured.end());
  if (!same->reference_recall) same->reference_recall = fresh.reference_recall;
  if (!same->reference_perplexity) same->reference_perplexity = fresh.reference_perplexity;
  for (const NoiseFloor& noise : fresh.noise) {
    const bool there = std::any_of(same->noise.begin(), same->noise.end(),
                                   [&](const NoiseFloor& other) { return other.name == noise.name; });
    if (!there) same->noise.push_back(noise);
  }
}

}  // namespace tqkv::measure
