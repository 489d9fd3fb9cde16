#include <fmt/format.h>

#include <algorithm>

#include "measure/page/read.h"
#include "runtime/devices.h"

namespace tqkv::measure {
namespace {

constexpr double most_perplexity = 1e12, most_bits = 64, most_distortion = 1e12;

AgreementFigures read_figures(const JsonObject& json) {
  AgreementFigures figures;
  figures.rows = json.count("rows");
  const JsonObject kl = json.object("kl");
  figures.mean_kl = kl.number("mean", 0, most_kl);
  const auto nats = [&](const char* key) { return kl.number_or_none(key, 0, most_kl); };
  figures.kl_se = nats("se");
  figures.median_kl = nats("median");
  figures.p90_kl = nats("p90");
  figures.p99_kl = nats("p99");
  figures.p999_kl = nats("p999");
  figures.max_kl = nats("max");
  if (const auto top = json.object_or_none("same_top")) {
    figures.same_top = top->number("share", 0, 1);
    figures.same_top_se = top->number_or_none("se", 0, 1);
  }
  figures.perplexity = json.number_or_none("perplexity", 0, most_perplexity);
  figures.reference_perplexity = json.number_or_none("reference_perplexity", 0, most_perplexity);
  figures.ratio = json.number_or_none("ratio", 0, most_perplexity);
  figures.ratio_se = json.number_or_none("ratio_se", 0, most_perplexity);
  if (const auto change = json.object_or_none("probability")) {
    figures.probability_mean = change->number_or_none("mean", -1, 1);
    figures.probability_rms = change->number_or_none("rms", 0, 1);
  }
  return figures;
}

AgreementData read_agreement(const JsonObject& json) {
  AgreementData agreement;
  agreement.all = read_figures(json.object("all"));
  if (const auto prefill = json.object_or_none("prefill")) agreement.prefill = read_figures(*prefill);
  if (const auto decode = json.object_or_none("decode")) agreement.decode = read_figures(*decode);
  for (const JsonObject& bucket : json.objects_or_none("by_position")) {
    agreement.by_position.push_back({bucket.count("from"), bucket.count("to"), read_figures(bucket)});
    if (agreement.by_position.back().from >= agreement.by_position.back().to)
      refuse_file(json.file(), fmt::format("{} ends before it starts", bucket.place()));
  }
  return agreement;
}

Answers read_answers(const JsonObject& json) {
  Answers answers{json.count("asked", 1 << 30), json.count("right", 1 << 30), json.number_or_none("low", 0, 1),
                  json.number_or_none("high", 0, 1)};
  if (answers.right > answers.asked)
    refuse_file(json.file(),
                fmt::format("{} has {} right answers of {} asked", json.place(), answers.right, answers.asked));
  return answers;
}

RecallData read_recall(const JsonObject& json) {
  RecallData recall;
  recall.precision = json.text_or("precision", "");
  for (const JsonObject& task : json.objects_or_none("tasks"))
    recall.tasks.emplace_back(task.text("task"), read_answers(task));
  for (const JsonObject& length : json.objects_or_none("lengths"))
    recall.lengths.emplace_back(length.count("length"), read_answers(length));
  for (const JsonObject& cell : json.objects_or_none("needle"))
    recall.needle.push_back({cell.count("length"), cell.number("depth", 0, 1), read_answers(cell)});
  recall.total = read_answers(json.object("total"));
  if (const auto paired = json.object_or_none("paired")) {
    recall.paired = RecallData::Paired{paired->count("only_reference"), paired->count("only_this"),
                                       paired->number("points", -100, 100), paired->number_or_none("low", -200, 200),
                                       paired->number_or_none("high", -200, 200)};
  }
  return recall;
}

QualityRun read_run(const JsonObject& json) {
  QualityRun run;
  run.file = json.file();
  run.format = json.text("format");
  run.precision = json.text_or("precision", "");
  const JsonObject bits = json.object("bits_per_value");
  run.bits = bits.number("mean", 1e-3, most_bits);
  run.k_bits = bits.number_or_none("k", 0, most_bits);
  run.v_bits = bits.number_or_none("v", 0, most_bits);
  run.bytes_per_token = json.count("bytes_per_token");
  if (const auto cache = json.object_or_none("cache_bytes")) {
    run.bytes = read_bytes(*cache);
    run.tokens = cache->count_or("tokens", 0);
  }
  run.layers = read_layers(json);
  if (const auto agreement = json.object_or_none("agreement")) run.agreement = read_agreement(*agreement);
  if (const auto recall = json.object_or_none("recall")) run.recall = read_recall(*recall);
  return run;
}

NoiseLevel read_noise(const JsonObject& json) {
  NoiseLevel noise;
  noise.name = json.text("name");
  const std::string of = json.text_or("of_precision", ""), against = json.text_or("against_precision", "");
  if (of == against) noise.precision = of;
  noise.figures = read_figures(json.object("agreement").object("all"));
  noise.mean_kl = noise.figures.mean_kl;
  return noise;
}

CodecEntry read_codec(const JsonObject& json) {
  CodecEntry entry;
  entry.format = json.text("format");
  entry.side = json.text_or("side", "");
  entry.input = json.text_or("input", "gaussian");
  entry.bits = json.number("bits_per_value", 1e-3, most_bits);
  const auto size = [&](const char* key) { return json.number_or_none(key, 0, most_distortion); };
  entry.distortion = json.number("distortion", 0, most_distortion);
  entry.distortion_se = size("distortion_se");
  entry.bias = json.number_or_none("bias", -most_distortion, most_distortion);
  entry.bias_se = size("bias_se");
  entry.score_variance = size("score_variance");
  entry.bound_lower = size("bound_lower");
  entry.bound_upper = size("bound_upper");
  return entry;
}

CapturedEntry read_captured_entry(const JsonObject& json) {
  constexpr double most = 1e30;
  CapturedFigures figures;
  figures.model = json.text("model");
  figures.format = json.text("format");
  figures.precision = json.text_or("precision", "f32") == name(Precision::fast) ? Precision::fast : Precision::f32;
  figures.layer = static_cast<int>(json.count("layer", 1 << 20));
  figures.window = static_cast<int>(std::min<std::uint64_t>(json.count_or("window", 0), 1 << 30));
  figures.bits = json.number("bits_per_value", 1e-3, most_bits);
  figures.kl = json.number("kl", -1, most);
  figures.kl_se = json.number_or_none("kl_se", 0, most).value_or(0);
  figures.score_error = json.number("score_error", 0, most);
  figures.output_error = json.number("output_error", 0, most);
  figures.k_distortion = json.number("k_distortion", 0, most);
  figures.v_distortion = json.number("v_distortion", 0, most);
  return {std::move(figures), ""};
}

}  // namespace

void add_evaluation(const JsonObject& top, Source& source, ReportData& data) {
  const JsonObject settings = top.object("settings");
  EvaluationGroup fresh;
  fresh.model = source.model;
  fresh.cpu = source.cpu;
  fresh.device = bits_of(source.device).canonical();
  fresh.text = settings.text_or("text", "");
  fresh.recall_precision = settings.text_or("recall_precision", "");
  fresh.tokens = settings.count_or("tokens", 0);
  fresh.decode_from = settings.count_or("decode_from", 0);
  fresh.text_tokens = settings.count_or("text_tokens", 0);
  // Model, machine and what they were given: the runs of two files stand together when all of it is the same.
  fresh.key = {source.fingerprint, source.cpu, fresh.device};
  for (const char* name :
       {"text_digest", "tokens", "decode_from", "prefill_chunk", "state", "recall_precision", "seed", "recall_lengths",
        "recall_depths", "recall_tasks", "recall_answers", "recall_match", "recall_digest"})
    fresh.key.push_back(settings.words_or(name, ""));
  if (const auto reference = top.object_or_none("reference")) {
    fresh.reference_perplexity = reference->number_or_none("perplexity", 0, most_perplexity);
    if (const auto recall = reference->object_or_none("recall")) fresh.reference_recall = read_recall(*recall);
  }
  for (const JsonObject& noise : top.objects_or_none("noise_floor")) fresh.noise.push_back(read_noise(noise));
  for (const JsonObject& run : top.objects("runs")) fresh.runs.push_back(read_run(run));
  for (const JsonObject& entry : top.objects_or_none("codec_level")) fresh.codec.push_back(read_codec(entry));
  for (const JsonObject& entry : top.objects_or_none("captured")) fresh.captured.push_back(read_captured_entry(entry));
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
  for (const NoiseLevel& noise : fresh.noise) {
    const bool there = std::any_of(same->noise.begin(), same->noise.end(),
                                   [&](const NoiseLevel& other) { return other.name == noise.name; });
    if (!there) same->noise.push_back(noise);
  }
}

}  // namespace tqkv::measure
