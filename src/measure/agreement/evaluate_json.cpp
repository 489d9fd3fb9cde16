#include "measure/agreement/evaluate_json.h"
#include "measure/files/machine.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "measure/agreement/agreement.h"
#include "measure/files/json_object.h"
#include "measure/recall/score.h"
#include "tqkv/error.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

template <class T, class Write>
Json list_of(const std::vector<T>& values, const Write& write) {
  Json list = Json::array();
  for (const T& value : values) list.push_back(write(value));
  return list;
}

Json json_of(const AgreementPart& part) {
  return {{"rows", part.rows},
          {"kl",
           {{"mean", part.kl.mean},
            {"se", or_null(part.kl.se)},
            {"median", part.kl.median},
            {"p90", part.kl.p90},
            {"p99", part.kl.p99},
            {"p999", part.kl.p999},
            {"max", part.kl.max}}},
          {"same_top", {{"share", part.same_top}, {"se", part.same_top_se}}},
          {"perplexity", part.perplexity},
          {"reference_perplexity", part.reference_perplexity},
          {"ratio", part.ratio},
          {"ratio_se", or_null(part.ratio_se)},
          {"probability", {{"mean", part.probability_mean}, {"rms", part.probability_rms}}}};
}

Json json_of(const Agreement& agreement) {
  const auto part = [](const std::optional<AgreementPart>& one) { return one ? json_of(*one) : Json(nullptr); };
  Json buckets = Json::array();
  for (const PositionBucket& bucket : agreement.by_position) {
    Json entry = {{"from", bucket.from}, {"to", bucket.to}};
    entry.update(json_of(bucket.part));
    buckets.push_back(std::move(entry));
  }
  return {{"all", json_of(agreement.all)},     {"prefill", part(agreement.prefill)}, {"decode", part(agreement.decode)},
          {"by_position", std::move(buckets)}, {"block", agreement.block},           {"block_kl", agreement.block_kl}};
}

Json json_of(const CodecFigures& figures) {
  return {{"format", figures.format},
          {"side", figures.side},
          {"stored", figures.stored},
          {"input", figures.input},
          {"count", figures.count},
          {"bits_per_value", figures.bits_per_value},
          {"distortion", figures.distortion},
          {"distortion_se", figures.distortion_se},
          {"bias", figures.bias},
          {"bias_se", figures.bias_se},
          {"score_variance", figures.score_variance},
          {"score_variance_se", figures.score_variance_se},
          {"bound_lower", or_null(figures.lower)},
          {"bound_upper", or_null(figures.upper)},
          {"expected", or_null(figures.expected)}};
}

Json with_share(Json entry, const Proportion& share) {
  entry["asked"] = share.asked;
  entry["right"] = share.right;
  entry["low"] = share.low;
  entry["high"] = share.high;
  return entry;
}

Json json_of(const RecallResult& recall) {
  Json tasks = Json::array(), lengths = Json::array(), needle = Json::array();
  for (const auto& [task, share] : recall.tasks) tasks.push_back(with_share({{"task", name(task)}}, share));
  for (const auto& [length, share] : recall.lengths) lengths.push_back(with_share({{"length", length}}, share));
  for (const RecallResult::Cell& cell : recall.needle)
    needle.push_back(with_share({{"length", cell.length}, {"depth", cell.depth}}, cell.of));
  const PairedDifference& paired = recall.paired;
  return {{"precision", name(recall.precision)},
          {"seconds", recall.seconds},
          {"tasks", std::move(tasks)},
          {"needle", std::move(needle)},
          {"lengths", std::move(lengths)},
          {"total", with_share(Json::object(), recall.total)},
          {"paired",
           {{"only_reference", paired.only_reference},
            {"only_this", paired.only_this},
            {"points", paired.points},
            {"low", paired.low},
            {"high", paired.high},
            {"contexts", paired.contexts}}},
          {"answers", recall.answers}};
}

Json json_of(const EvaluationRun& run) {
  return {{"backend", name(run.format.backend)},
          {"format", run.format.canonical()},
          {"effective", run.effective},
          {"precision", name(run.precision)},
          {"bits_per_value", {{"k", run.k_bits}, {"v", run.v_bits}, {"mean", (run.k_bits + run.v_bits) / 2}}},
          {"bytes_per_token", run.bytes_per_token},
          {"cache_bytes",
           {{"tokens", run.cache_tokens},
            {"kv_used", run.cache.kv_used},
            {"kv_allocated", run.cache.kv_allocated},
            {"state", run.cache.state()},
            {"recurrent", run.cache.recurrent},
            {"convolution", run.cache.convolution}}},
          {"layers", list_of(run.layers,
                             [](const EvaluationRun::Layer& layer) {
                               return Json{{"layer", layer.layer}, {"k", layer.k}, {"v", layer.v}};
                             })},
          {"agreement", run.agreement ? json_of(*run.agreement) : Json(nullptr)},
          {"recall", run.recall ? json_of(*run.recall) : Json(nullptr)},
          {"seconds", run.seconds}};
}

Json json_of(const NoiseFloor& noise) {
  return {{"name", noise.name},
          {"of", noise.of},
          {"of_precision", name(noise.of_precision)},
          {"of_chunk", noise.of_chunk},
          {"against", noise.against},
          {"against_precision", name(noise.against_precision)},
          {"against_chunk", noise.against_chunk},
          {"agreement", json_of(noise.agreement)}};
}

Json contexts_of(const Evaluation& evaluation) {
  return list_of(evaluation.contexts, [](const RecallContext& context) {
    return Json{{"task", name(context.task)},
                {"length", context.length},
                {"round", context.round},
                {"tokens", context.tokens},
                {"questions", context.questions}};
  });
}

int questions_of(const Evaluation& evaluation) {
  int count = 0;
  for (const RecallContext& context : evaluation.contexts) count += context.questions;
  return count;
}

// All that the figures depend on, but for the model and the machine.
Json settings_of(const Evaluation& evaluation) {
  const EvaluateOptions& options = evaluation.options;
  Json settings = {
      {"preset", options.preset},
      {"precision", list_of(options.precisions, [](Precision precision) { return Json(name(precision)); })},
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
  settings["recall_tasks"] = list_of(recall.tasks, [](RecallTask task) { return Json(name(task)); });
  settings["recall_answers"] = questions_of(evaluation);
  settings["recall_questions"] = recall.questions;
  settings["recall_match"] = name(recall.match);
  settings["recall_digest"] = evaluation.recall_digest;
  return settings;
}

// ---- reading

constexpr double most = 1e300;

Precision precision_of(const JsonObject& json, const char* key) {
  const std::string text = json.text(key);
  if (text == name(Precision::f32)) return Precision::f32;
  if (text == name(Precision::fast)) return Precision::fast;
  refuse_file(json.file(), json.place() + "." + key + " is '" + text + "', f32 or fast was expected");
}

int count_of(const JsonObject& json, const char* key) {
  return static_cast<int>(json.count(key, 1u << 30));
}

AgreementPart read_part(const JsonObject& json) {
  AgreementPart part;
  part.rows = count_of(json, "rows");
  const JsonObject kl = json.object("kl"), same = json.object("same_top"), change = json.object("probability");
  part.kl.mean = kl.number("mean", 0, most);
  part.kl.se = kl.number_or_none("se", 0, most);
  part.kl.median = kl.number("median", 0, most);
  part.kl.p90 = kl.number("p90", 0, most);
  part.kl.p99 = kl.number("p99", 0, most);
  part.kl.p999 = kl.number("p999", 0, most);
  part.kl.max = kl.number("max", 0, most);
  part.same_top = same.number("share", 0, 1);
  part.same_top_se = same.number("se", 0, 1);
  part.perplexity = json.number("perplexity", 0, most);
  part.reference_perplexity = json.number("reference_perplexity", 0, most);
  part.ratio = json.number("ratio", 0, most);
  part.ratio_se = json.number_or_none("ratio_se", 0, most);
  part.probability_mean = change.number("mean", -1, 1);
  part.probability_rms = change.number("rms", 0, 1);
  return part;
}

Agreement read_agreement(const JsonObject& json) {
  Agreement agreement;
  agreement.all = read_part(json.object("all"));
  if (const auto part = json.object_or_none("prefill")) agreement.prefill = read_part(*part);
  if (const auto part = json.object_or_none("decode")) agreement.decode = read_part(*part);
  for (const JsonObject& bucket : json.objects("by_position"))
    agreement.by_position.push_back({count_of(bucket, "from"), count_of(bucket, "to"), read_part(bucket)});
  agreement.block = count_of(json, "block");
  agreement.block_kl = json.numbers("block_kl", 0, most);
  return agreement;
}

CodecFigures read_codec(const JsonObject& json) {
  CodecFigures figures;
  figures.format = json.text("format");
  figures.side = json.text("side");
  figures.stored = json.text("stored");
  figures.input = json.text("input");
  figures.count = count_of(json, "count");
  figures.bits_per_value = json.number("bits_per_value", 0, 64);
  figures.distortion = json.number("distortion", 0, most);
  figures.distortion_se = json.number("distortion_se", 0, most);
  figures.bias = json.number("bias", -most, most);
  figures.bias_se = json.number("bias_se", 0, most);
  figures.score_variance = json.number("score_variance", 0, most);
  figures.score_variance_se = json.number("score_variance_se", 0, most);
  figures.lower = json.number_or_none("bound_lower", 0, most);
  figures.upper = json.number_or_none("bound_upper", 0, most);
  figures.expected = json.number_or_none("expected", 0, most);
  return figures;
}

// `raw` is the JSON of `json`.
RecallResult read_recall(const JsonObject& json, const nlohmann::json& raw, const Evaluation& evaluation) {
  RecallResult recall;
  recall.precision = precision_of(json, "precision");
  recall.seconds = json.number("seconds", 0, most);
  const auto answers = raw.find("answers");
  const auto wrong = [&] {
    refuse_file(json.file(), json.place() + ".answers is not a list of 0 and 1 for every question of every context");
  };
  if (answers == raw.end() || !answers->is_array() || answers->size() != evaluation.contexts.size()) wrong();
  for (const nlohmann::json& context : *answers) {
    const int questions = evaluation.contexts[recall.answers.size()].questions;
    if (!context.is_array() || context.size() != static_cast<std::size_t>(questions)) wrong();
    std::vector<int>& row = recall.answers.emplace_back();
    for (const nlohmann::json& answer : context) {
      if (answer != 0 && answer != 1) wrong();
      row.push_back(answer.get<int>());
    }
  }
  return recall;
}

void score_again(RecallResult& recall, const Evaluation& evaluation, const RecallResult& reference) {
  const std::vector<std::vector<int>> answers = reference.answers;  // `recall` may be `reference`
  score(recall, evaluation.contexts, evaluation.options.recall_options.depths, answers);
}

EvaluationRun read_run(const JsonObject& json, const nlohmann::json& raw, const Evaluation& evaluation) {
  EvaluationRun run;
  try {
    run.format = KvFormat::parse(json.text("format"));
  } catch (const Error& error) {
    refuse_file(json.file(), json.place() + ".format: " + error.what());
  }
  run.effective = json.text("effective");
  run.precision = precision_of(json, "precision");
  const JsonObject bits = json.object("bits_per_value"), bytes = json.object("cache_bytes");
  run.k_bits = bits.number("k", 0, 64);
  run.v_bits = bits.number("v", 0, 64);
  run.bytes_per_token = json.count("bytes_per_token");
  run.cache_tokens = count_of(bytes, "tokens");
  run.cache.kv_used = bytes.count("kv_used");
  run.cache.kv_allocated = bytes.count("kv_allocated");
  run.cache.recurrent = bytes.count("recurrent");
  run.cache.convolution = bytes.count("convolution");
  for (const JsonObject& layer : json.objects("layers"))
    run.layers.push_back({count_of(layer, "layer"), layer.text("k"), layer.text("v")});
  if (const auto agreement = json.object_or_none("agreement")) run.agreement = read_agreement(*agreement);
  if (const auto recall = json.object_or_none("recall")) {
    if (!evaluation.reference_recall)
      refuse_file(json.file(), json.place() + " has recall, but the reference has none");
    run.recall = read_recall(*recall, raw.at("recall"), evaluation);
    score_again(*run.recall, evaluation, *evaluation.reference_recall);
  }
  run.seconds = json.number("seconds", 0, most);
  return run;
}

NoiseFloor read_noise(const JsonObject& json) {
  NoiseFloor noise;
  noise.name = json.text("name");
  noise.of = json.text("of");
  noise.against = json.text("against");
  noise.of_precision = precision_of(json, "of_precision");
  noise.against_precision = precision_of(json, "against_precision");
  noise.of_chunk = count_of(json, "of_chunk");
  noise.against_chunk = count_of(json, "against_chunk");
  noise.agreement = read_agreement(json.object("agreement"));
  return noise;
}

}  // namespace

void take_finished(Evaluation& into, const std::string& file, std::string_view text) {
  const nlohmann::json raw =
      parse_resumed(file, text, {"evaluation", "evaluate", into.fingerprint, into.device.device, settings_of(into)});
  const JsonObject json(file, raw, "the file");

  Evaluation taken = into;
  const JsonObject reference = json.object("reference");
  if (const auto recall = reference.object_or_none("recall")) {
    taken.reference_recall = read_recall(*recall, raw.at("reference").at("recall"), taken);
    score_again(*taken.reference_recall, taken, *taken.reference_recall);
  }
  for (const JsonObject& noise : json.objects_or_none("noise_floor")) taken.noise.push_back(read_noise(noise));
  for (const JsonObject& codec : json.objects_or_none("codec_level")) taken.codec.push_back(read_codec(codec));
  const std::vector<JsonObject> runs = json.objects_or_none("runs");
  for (std::size_t i = 0; i < runs.size(); ++i) {
    taken.runs.push_back(read_run(runs[i], raw.at("runs").at(i), taken));
    if (const auto& agreement = taken.runs.back().agreement)
      taken.reference_perplexity = agreement->all.reference_perplexity;
  }
  const std::string before = json.text_or("command", "");
  if (!before.empty() && before != into.command) taken.command = before + "; " + into.command;
  into = std::move(taken);
}

std::string to_json(const Evaluation& evaluation) {
  Json json = {
      {"schema", 1},
      {"kind", "evaluation"},
      {"tool", {{"name", "tqkv"}, {"version", version}}},
      {"command", evaluation.command},
      {"model", {{"name", evaluation.model}, {"shape", evaluation.shape}, {"fingerprint", evaluation.fingerprint}}},
      {"machine", machine_json(evaluation.device, evaluation.memory)},
      {"settings", settings_of(evaluation)},
      {"reference",
       {{"format", evaluation.reference_format},
        {"precision", name(Precision::f32)},
        {"stored", evaluation.reference_stored.empty() ? Json(nullptr) : Json(evaluation.reference_stored)},
        {"rows", evaluation.options.agreement ? evaluation.tokens - 1 : 0},
        {"perplexity", or_null(evaluation.reference_perplexity)},
        {"recall", evaluation.reference_recall ? json_of(*evaluation.reference_recall) : Json(nullptr)}}},
      {"recall_contexts", contexts_of(evaluation)},
      {"noise_floor", list_of(evaluation.noise, [](const NoiseFloor& noise) { return json_of(noise); })},
      {"codec_level", list_of(evaluation.codec, [](const CodecFigures& figures) { return json_of(figures); })},
      {"runs", list_of(evaluation.runs, [](const EvaluationRun& run) { return json_of(run); })}};
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace tqkv::measure
