#include "measure/agreement/evaluate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/numbers.h"
#include "cli/commands/commands.h"
#include "cli/options/file_options.h"
#include "cli/options/number_checks.h"
#include "cli/options/options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/terminal/input.h"
#include "cli/terminal/output.h"
#include "cli/terminal/output_file.h"
#include "loaders/locate.h"
#include "measure/agreement/captured.h"
#include "runtime/devices.h"
#include "tqkv/error.h"
#include "tqkv/model.h"
#include "tqkv/saved_session.h"

namespace tqkv::cli {

using namespace measure;

namespace {

constexpr const char* agreement_group = "Agreement";
constexpr const char* recall_group = "Recall";
constexpr const char* codec_group = "Single vectors";

struct EvaluateArguments {
  ModelOptions model;
  CacheOptions cache;
  std::string preset = "quick", text, output, logits, capture, captured, recall_precision = "fast", match = "exact";
  std::vector<std::string> precisions = {"f32"}, tasks;
  std::vector<int> lengths;
  std::vector<double> depths;
  std::optional<int> tokens, decode_from, answers, questions;
  std::uint64_t seed = 0;
  bool no_recall = false, no_agreement = false, no_noise_floor = false, no_codec_level = false, resume = false;
};

Precision precision_of(const std::string& text) {
  return text == "fast" ? Precision::fast : Precision::f32;
}

EvaluateOptions settings_of(const EvaluateArguments& options, int native_context) {
  EvaluateOptions settings = evaluate_preset(options.preset, native_context);
  settings.formats = options.cache.formats();
  settings.precisions.clear();
  for (const std::string& precision : options.precisions) settings.precisions.push_back(precision_of(precision));
  settings.recall_precision = precision_of(options.recall_precision);
  settings.tokens = options.tokens.value_or(settings.tokens);
  settings.decode_from = options.decode_from.value_or(0);
  settings.agreement = !options.no_agreement;
  settings.noise_floor = settings.agreement && !options.no_noise_floor;
  settings.recall = !options.no_recall;
  settings.codec_level = !options.no_codec_level;
  settings.capture = options.capture;
  settings.state = options.model.session().state;
  settings.prefill_chunk = options.model.prefill_chunk;
  settings.logits = options.logits;
  RecallOptions& recall = settings.recall_options;
  if (!options.lengths.empty()) recall.lengths = options.lengths;
  if (!options.depths.empty()) recall.depths = options.depths;
  if (!options.tasks.empty()) {
    recall.tasks.clear();
    for (const std::string& task : options.tasks) recall.tasks.push_back(recall_task(task).value());
  }
  recall.answers = options.answers.value_or(recall.answers);
  recall.questions = options.questions.value_or(recall.questions);
  recall.seed = options.seed;
  recall.match = options.match == "value" ? AnswerMatch::value : AnswerMatch::exact;
  return settings;
}

EvaluationText text_of(const EvaluateArguments& options) {
  if (!options.text.empty()) return {options.text, read_text_input(options.text)};
  return {"the bundled text", read_text(locate_evaluation_text())};
}

std::string command_of(const EvaluateArguments& options, const EvaluateOptions& settings) {
  std::vector<std::string> formats;
  for (const KvFormat& format : settings.formats) formats.push_back(format.canonical());
  std::string out = fmt::format("tqkv evaluate {} --backend {} --preset {} --precision {}", options.model.model,
                                fmt::join(formats, ","), options.preset, fmt::join(options.precisions, ","));
  if (!options.text.empty()) out += " --text " + options.text;
  if (options.tokens) out += fmt::format(" --tokens {}", *options.tokens);
  if (options.decode_from) out += fmt::format(" --decode-from {}", *options.decode_from);
  if (!options.lengths.empty()) out += fmt::format(" --lengths {}", fmt::join(options.lengths, ","));
  if (!options.depths.empty()) out += fmt::format(" --depths {}", fmt::join(options.depths, ","));
  if (!options.tasks.empty()) out += fmt::format(" --tasks {}", fmt::join(options.tasks, ","));
  if (options.answers) out += fmt::format(" --answers {}", *options.answers);
  if (options.questions) out += fmt::format(" --questions {}", *options.questions);
  if (options.seed != 0) out += fmt::format(" --seed {}", options.seed);
  if (options.recall_precision != "fast") out += " --recall-precision " + options.recall_precision;
  if (options.match != "exact") out += " --match " + options.match;
  if (options.model.state != "f32") out += " --state " + options.model.state;
  if (options.model.prefill_chunk != 2048) out += fmt::format(" --prefill-chunk {}", options.model.prefill_chunk);
  if (const std::string device = bits_of(options.model.device_choice.device()).canonical(); device != "cpu")
    out += " --device " + device;
  if (options.no_agreement) out += " --no-agreement";
  if (options.no_noise_floor) out += " --no-noise-floor";
  if (options.no_recall) out += " --no-recall";
  if (options.no_codec_level) out += " --no-codec-level";
  return out;
}

/// One engine a precision, loaded when it is first needed.
class Engines {
 public:
  Engines(std::filesystem::path directory, const DeviceOptions& device)
      : directory_(std::move(directory)), device_(device) {}
  const Engine& operator()(Precision precision) {
    std::unique_ptr<Engine>& engine = engines_[precision];
    if (!engine) {
      DeviceOptions device = device_;
      device.precision = precision;
      engine = Engine::load(Checkpoint::open(directory_), device);
    }
    return *engine;
  }

 private:
  std::filesystem::path directory_;
  DeviceOptions device_;
  std::map<Precision, std::unique_ptr<Engine>> engines_;
};

template <class Result>
void write(const std::string& path, const Result& evaluation) {
  OutputFile file(path);
  file.write(to_json(evaluation));
  file.commit();
}

void evaluate_vectors(const EvaluateArguments& options) {
  if (!options.model.model.empty())
    throw Error(ErrorKind::usage, fmt::format("--captured needs no model: leave '{}' out", options.model.model));
  if (!options.output.empty())
    const OutputFile probe(options.output);  // what cannot be written is known before the work
  const std::vector<KvFormat> formats = options.cache.formats();
  std::vector<std::string> names;
  names.reserve(formats.size());
  for (const KvFormat& format : formats) names.push_back(format.canonical());
  std::vector<Precision> precisions;
  for (const std::string& precision : options.precisions) precisions.push_back(precision_of(precision));
  const CapturedText text = read_captured(options.captured);
  std::function<void(std::string_view)> progress;
  if (error_shows_status()) progress = [](std::string_view line) { show_status(line); };
  CapturedEvaluation evaluation = evaluate_captured(text, formats, precisions, options.model.device(), progress);
  clear_status();
  evaluation.command = fmt::format("tqkv evaluate --captured {} --backend {} --precision {}", options.captured,
                                   fmt::join(names, ","), fmt::join(options.precisions, ","));
  if (!options.output.empty()) write(options.output, evaluation);
  print_result(options.output, to_table(evaluation));
}

void evaluate(const EvaluateArguments& options) {
  if (!options.captured.empty()) return evaluate_vectors(options);
  if (options.model.model.empty()) throw CLI::RequiredError("MODEL");
  if (options.resume) check_resumed(options.output);
  const std::filesystem::path directory = find_model(options.model.model);
  const Checkpoint checkpoint = Checkpoint::open(directory);
  EvaluationModel model;
  model.name = options.model.model;
  model.config = open_config(checkpoint);
  model.fingerprint = model_fingerprint(checkpoint);
  const Tokenizer tokenizer = load_tokenizer(checkpoint);
  model.tokenizer = &tokenizer;
  std::string about;
  model.chat = open_chat(checkpoint, tokenizer, &about);
  if (!about.empty()) note(about);
  model.stop_ids = open_defaults(checkpoint, model.config).stop_ids;
  EvaluateOptions settings = settings_of(options, model.config.max_position_embeddings);
  settings.command = command_of(options, settings);

  Evaluator evaluator(std::move(model), text_of(options), std::move(settings));
  if (const Evaluation& begun = evaluator.evaluation(); !options.no_agreement && begun.tokens < begun.options.tokens)
    note(fmt::format("the text has only {} tokens of {}: all of it is used", begun.tokens, begun.options.tokens));
  const auto plans = evaluator.plans(checkpoint.tensor_bytes(), options.model.device());
  const auto largest = std::max_element(plans.begin(), plans.end(), [](const MemoryPlan& a, const MemoryPlan& b) {
    return a.anonymous() < b.anonymous();
  });
  const Announcement announcement = admit(*largest, options.model, checkpoint.directory());
  if (!options.output.empty()) {
    const OutputFile probe(options.output);  // what cannot be written is known before the work
  }
  if (!options.capture.empty()) const AtomicFile probe(options.capture);

  Engines engines(directory, options.model.device());
  std::error_code error;
  if (options.resume && std::filesystem::exists(options.output, error)) {
    const Precision first = precision_of(options.no_agreement ? options.recall_precision : options.precisions.front());
    evaluator.resume(options.output, read_text(options.output), engines(first).device());
    note(fmt::format("{}: continues after {} runs", options.output, evaluator.evaluation().runs.size()));
  }
  if (const auto storage = evaluator.storage())
    note(fmt::format("reference logits: {} bytes in {}, removed at the end", grouped(storage->bytes),
                     storage->path.string()));

  Evaluator::Callbacks callbacks;
  if (error_shows_status()) callbacks.progress = [](std::string_view line) { show_status(line); };
  callbacks.finished = [&](const Evaluation& so_far, const EvaluationRun& run) {
    clear_status();
    note(summary_line(run));
    if (!options.output.empty() && options.output != "-") write(options.output, so_far);
  };
  const Evaluation& evaluation =
      evaluator.run([&](Precision precision) -> const Engine& { return engines(precision); }, callbacks);
  clear_status();
  if (!options.output.empty()) write(options.output, evaluation);
  print_result(options.output, to_table(evaluation));
}

}  // namespace

void add_evaluate(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<EvaluateArguments>();
  CLI::App* command =
      program.add_subcommand("evaluate", "Measure what cache formats cost in quality: agreement and recall");
  add_model_options(*command, options->model);
  for (const char* other : {"--precision", "--context"}) command->remove_option(command->get_option(other));
  command->get_option("MODEL")->required(false);  // --captured has none
  command->add_option("--preset", options->preset, "quick, or study: longer texts, 500 answers")
      ->check(CLI::IsMember({"quick", "study"}))
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--text", options->text, "Text to compare on (default: the bundled text); - is standard input")
      ->type_name("FILE");
  command->add_option("--output", options->output, "JSON file, updated after each backend; - is standard output")
      ->type_name("FILE");
  command->add_flag("--resume", options->resume, "Continue the file of --output: skip the backends that it has");
  command->add_option("--seed", options->seed, "Seed of the recall questions")
      ->transform(whole_number(0, UINT64_MAX))
      ->type_name("N")
      ->capture_default_str();

  const auto group = [](CLI::Option* option, const char* name) { option->group(name); };
  group(command->add_option("--precision", options->precisions, "f32 (codecs alone), fast (what a user gets) or both")
            ->check(CLI::IsMember({"f32", "fast"}))
            ->delimiter(',')
            ->type_name("KIND,...")
            ->default_str("f32"),
        agreement_group);
  group(command->add_option("--tokens", options->tokens, "Tokens of the text (default: 4096, study 8192)")
            ->transform(whole_number(2, max_count))
            ->type_name("N"),
        agreement_group);
  group(command
            ->add_option("--decode-from", options->decode_from,
                         "Tokens to feed in chunks; the rest are fed one by one (default: 15/16 of them)")
            ->transform(whole_number(1, max_count))
            ->type_name("N"),
        agreement_group);
  group(command->add_option("--logits", options->logits, "File for the reference logits (default: a temporary file)")
            ->type_name("FILE"),
        agreement_group);
  group(command->add_flag("--no-agreement", options->no_agreement, "Skip agreement"), agreement_group);
  group(command->add_flag("--no-noise-floor", options->no_noise_floor,
                          "Skip the noise floor, which is what rounding alone does"),
        agreement_group);

  std::vector<std::string> task_names;
  for (const RecallTask task : all_recall_tasks()) task_names.emplace_back(name(task));
  group(command->add_option("--lengths", options->lengths, "Context lengths in tokens (default: 1024,2048,4096)")
            ->transform(whole_number(16, max_count))
            ->delimiter(',')
            ->type_name("N,..."),
        recall_group);
  group(command
            ->add_option("--depths", options->depths,
                         "Where needles are placed, as a share of the text (default: 0,0.25,0.5,0.75,1)")
            ->transform(real_number(0, 1))
            ->delimiter(',')
            ->type_name("X,..."),
        recall_group);
  group(
      command->add_option("--tasks", options->tasks, "needle, table, rooms, variables, pairs, numbered (default: all)")
          ->check(CLI::IsMember(task_names))
          ->delimiter(',')
          ->type_name("NAME,..."),
      recall_group);
  group(command->add_option("--answers", options->answers, "Minimum number of answers (default: 64, study 500)")
            ->transform(whole_number(1, 100'000))
            ->type_name("N"),
        recall_group);
  group(command->add_option("--questions", options->questions, "Questions per context, except needles (default: 8)")
            ->transform(whole_number(1, 1000))
            ->type_name("N"),
        recall_group);
  group(
      command
          ->add_option("--match", options->match, "exact: the sentence of the training; value: the value in any answer")
          ->check(CLI::IsMember({"exact", "value"}))
          ->type_name("KIND")
          ->capture_default_str(),
      recall_group);
  group(command->add_option("--recall-precision", options->recall_precision, "fast or f32")
            ->check(CLI::IsMember({"f32", "fast"}))
            ->type_name("KIND")
            ->capture_default_str(),
        recall_group);
  group(command->add_flag("--no-recall", options->no_recall, "Skip recall"), recall_group);
  group(command
            ->add_option("--capture", options->capture,
                         "Write the uncompressed keys and values of the text to this safetensors file")
            ->type_name("FILE"),
        codec_group);
  group(command->add_flag("--no-codec-level", options->no_codec_level, "Skip the distortion of single vectors"),
        codec_group);
  CLI::Option* captured = command->add_option("--captured", options->captured,
                                              "Measure on keys, values and queries in this safetensors file instead of "
                                              "on MODEL");
  group(captured->type_name("FILE"), codec_group);
  for (const char* other : {"--preset",           "--text",      "--resume",       "--seed",           "--tokens",
                            "--decode-from",      "--logits",    "--no-agreement", "--no-noise-floor", "--lengths",
                            "--depths",           "--tasks",     "--answers",      "--questions",      "--match",
                            "--recall-precision", "--no-recall", "--capture",      "--no-codec-level", "--state",
                            "--prefill-chunk",    "--force"})
    captured->excludes(other);
  add_cache_options(*command, options->cache, true);
  command->footer(
      "Examples:\n"
      "  tqkv evaluate pocket --backend baseline,mlx_quant,turboquant --output q.json\n"
      "  tqkv evaluate pocket --backend turboquant,turboquant:bits=3 --text book.txt --preset study --precision "
      "f32,fast\n"
      "  tqkv evaluate --captured vectors.safetensors --backend turboquant,turboquant:mean=64:window=128");
  command->callback([options] { evaluate(*options); });
}

}  // namespace tqkv::cli
