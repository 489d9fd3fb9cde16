#include "measure/agreement/evaluate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "base/memory_info.h"
#include "base/stopwatch.h"
#include "cache/accounting.h"
#include "codec/side_codec.h"
#include "measure/agreement/agreement.h"
#include "measure/agreement/capture.h"
#include "measure/agreement/codec_level.h"
#include "measure/agreement/evaluate_json.h"
#include "measure/agreement/text_ids.h"
#include "measure/figures/digest.h"
#include "measure/recall/run.h"
#include "measure/recall/score.h"
#include "measure/recall/set.h"
#include "runtime/devices.h"
#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

// Room for a question and its answer behind the longest context of a preset.
constexpr int question_room = 256;
// Chunk of the noise floor, where the ordinary one is another.
constexpr int noise_chunk = 256;
// Random vectors of the figures of single codecs.
constexpr int gaussian_vectors = 1000;

// One row of the result.
struct Job {
  KvFormat format;
  Precision precision = Precision::f32;
  bool recall = false;  // the first row of a format has it
};

[[noreturn]] void wrong(const std::string& what) {
  throw Error(ErrorKind::usage, "evaluate: " + what);
}

void check_range(const char* what, int value, int least, int most) {
  if (value < least || value > most)
    wrong(fmt::format("{} {}, a number from {} to {} was expected", what, value, least, most));
}

void check_recall(const RecallOptions& recall, int native) {
  if (recall.lengths.empty() || recall.depths.empty() || recall.tasks.empty())
    wrong("recall needs a length, a depth and a task");
  for (const int length : recall.lengths) check_range("recall length", length, 16, native);
  if (std::set<int>(recall.lengths.begin(), recall.lengths.end()).size() != recall.lengths.size())
    wrong(fmt::format("a recall length is there twice: {}", fmt::join(recall.lengths, ", ")));
  if (std::set<RecallTask>(recall.tasks.begin(), recall.tasks.end()).size() != recall.tasks.size())
    wrong("a recall task is there twice: name each once");
  for (const double depth : recall.depths) {
    if (!(depth >= 0 && depth <= 1)) wrong(fmt::format("depth {}, a number from 0 to 1 was expected", depth));
  }
  check_range("number of depths", static_cast<int>(std::min<std::size_t>(recall.depths.size(), 1000)), 1, 60);
  check_range("number of answers", recall.answers, 1, 100'000);
  check_range("number of questions a context", recall.questions, 1, 1000);
}

void check(const EvaluateOptions& options, const ModelConfig& config) {
  if (options.formats.empty()) wrong("no backend was given");
  for (auto format = options.formats.begin(); format != options.formats.end(); ++format) {
    cache::check_format(config, *format);
    if (std::find(options.formats.begin(), format, *format) != format)
      wrong(fmt::format("{} was given twice: once is enough", format->canonical()));
  }
  if (!options.agreement && !options.recall && !options.codec_level)
    wrong("without agreement, recall and single vectors there is nothing to do");
  if (!options.agreement && !options.capture.empty())
    wrong("keys and values are captured from the text of the agreement, which was left out");
  if (options.precisions.empty() || options.precisions.size() > 2 ||
      (options.precisions.size() == 2 && options.precisions[0] == options.precisions[1]))
    wrong("the precision is f32, fast or both");
  const int native = config.max_position_embeddings;
  check_range("number of tokens", options.tokens, 2, native);
  check_range("start of decode", options.decode_from, 0, options.tokens);
  check_range("prefill chunk", options.prefill_chunk, 1, 65536);
  if (options.recall) check_recall(options.recall_options, native);
}

// All but a sixteenth of the tokens, 64 at least where there are enough.
int default_decode_from(int tokens) {
  const int least = tokens >= 256 ? 64 : tokens / 4;
  return std::max(1, tokens - std::max(tokens / 16, least));
}

std::vector<Job> jobs_of(const EvaluateOptions& options) {
  std::vector<Job> jobs;
  std::vector<KvFormat> formats = options.formats;
  const KvFormat baseline = KvFormat::of(Backend::baseline);
  const std::vector<Precision> precisions =
      options.agreement ? options.precisions : std::vector{options.recall_precision};
  const bool asked = std::find(formats.begin(), formats.end(), baseline) != formats.end();
  for (const Precision precision : precisions) {
    // What the user gets without compression stands beside what he gets with it.
    if (precision == Precision::fast && options.agreement && !asked) jobs.push_back({baseline, precision, false});
  }
  for (const KvFormat& format : formats) {
    for (const Precision precision : precisions)
      jobs.push_back({format, precision, options.recall && precision == precisions.front()});
  }
  return jobs;
}

// f32 is what bf16 becomes in the exact path: the bits that count are those of the format.
double stored_bits(const SideFormat& side, int dim) {
  if (side.kind == SideFormat::Kind::plain) return 16;
  return codec::bits_per_value(side, dim);
}

void take_storage(EvaluationRun& run, const CacheReport& report, const ModelConfig& config) {
  run.effective = report.format.canonical();
  run.cache_tokens = report.tokens;
  run.cache = report.bytes;
  double bits = 0;
  for (const LayerCache& layer : report.layers) {
    run.layers.push_back({layer.layer, layer.k.describe(), layer.v.describe()});
    run.k_bits += stored_bits(layer.k, config.head_dim);
    run.v_bits += stored_bits(layer.v, config.head_dim);
  }
  bits = run.k_bits + run.v_bits;
  if (!report.layers.empty()) {
    run.k_bits /= static_cast<double>(report.layers.size());
    run.v_bits /= static_cast<double>(report.layers.size());
  }
  run.bytes_per_token = static_cast<std::uint64_t>(std::llround(bits * config.kv_dim() / 8));
}

}  // namespace

EvaluateOptions evaluate_preset(std::string_view preset, int native_context) {
  EvaluateOptions options;
  options.preset = preset;
  if (preset == "study") {
    options.tokens = 8192;
    options.recall_options.lengths = {1024, 4096, 8192, 16384, 32768};
    options.recall_options.answers = 500;
  } else if (preset != "quick") {
    wrong(fmt::format("there is no preset '{}': quick or study", preset));
  }
  options.tokens = std::min(options.tokens, native_context);
  std::vector<int>& lengths = options.recall_options.lengths;
  lengths.erase(std::remove_if(lengths.begin(), lengths.end(),
                               [&](int length) { return length > native_context - question_room; }),
                lengths.end());
  if (lengths.empty()) lengths = {std::max(16, native_context / 2)};
  return options;
}

struct Evaluator::State {
  EvaluationModel model;
  EvaluateOptions options;
  Evaluation evaluation;
  std::vector<int> ids;  // of the text
  std::vector<PreparedContext> contexts;
  int replaced = 0;

  State(EvaluationModel of, const EvaluationText& source, EvaluateOptions asked);
  std::filesystem::path logits_path() const;
  int rows() const { return static_cast<int>(ids.size()) - 1; }
  std::span<const int> fed_ids() const { return std::span(ids).first(static_cast<std::size_t>(rows())); }
  int prefilled() const { return std::min(evaluation.decode_from, rows()); }
  SessionOptions session(int chunk) const;
  bool has(const Job& job) const;

  void say(const Callbacks& callbacks, const std::string& line) const {
    if (callbacks.progress) callbacks.progress(line);
  }
  template <class Row>
  CacheReport feed(const Engine& engine, const KvFormat& format, int chunk, const std::string& label,
                   const Callbacks& callbacks, const Row& row, Observer* observer = nullptr) const;
  std::unique_ptr<ReferenceLogits> baseline_logits(const Engine& engine, const std::string& label,
                                                   const Callbacks& callbacks, Observer* observer = nullptr) const;
  Agreement compare(ReferenceLogits& reference, const Engine& engine, const KvFormat& format, int chunk,
                    const std::string& label, const Callbacks& callbacks, CacheReport* report = nullptr) const;
  RecallResult recall(const EngineSource& engines, const KvFormat& format, const Callbacks& callbacks) const;
  void measure_noise(const EngineSource& engines, ReferenceLogits& exact, const Callbacks& callbacks);
  std::vector<KvFormat> without_codec_figures() const;
  void measure_codecs(std::span<const KvFormat> formats, const Capture* capture, const Callbacks& callbacks);
  EvaluationRun run_job(const Job& job, const EngineSource& engines, ReferenceLogits* exact,
                        const Callbacks& callbacks) const;
};

Evaluator::State::State(EvaluationModel of, const EvaluationText& source, EvaluateOptions asked)
    : model(std::move(of)), options(std::move(asked)) {
  check(options, model.config);
  std::string valid;
  replaced = text::append_lossy(valid, source.text);
  ids = first_ids(*model.tokenizer, valid, options.tokens);
  if (options.agreement && ids.size() < 2)
    throw Error(ErrorKind::input, fmt::format("{}: the text has {} token{}, at least 2 are needed", source.source,
                                              ids.size(), ids.size() == 1 ? "" : "s"));
  evaluation.tokens = static_cast<int>(ids.size());
  if (options.decode_from > evaluation.tokens)
    wrong(fmt::format("decode was to start at token {}, but the text has only {}", options.decode_from,
                      evaluation.tokens));
  evaluation.decode_from = options.decode_from > 0 ? options.decode_from : default_decode_from(evaluation.tokens);
  if (options.recall) {
    if (!model.chat)
      throw Error(ErrorKind::chat,
                  "recall: the model's chat template is not Qwen markup, which the questions need: use --no-recall");
    const Markup markup(*model.tokenizer, *model.chat);
    contexts = make_recall_set(options.recall_options, valid, markup);
    const int longest = longest_session(contexts, options.recall_options.match);
    if (longest > model.config.max_position_embeddings)
      wrong(
          fmt::format("the longest question and answer take {} tokens, but the model was made for at most {}: give "
                      "smaller --lengths",
                      longest, model.config.max_position_embeddings));
  }

  evaluation.model = model.name;
  evaluation.shape = shape_of(model.config);
  evaluation.fingerprint = model.fingerprint;
  evaluation.command = options.command;
  evaluation.memory = total_memory();
  evaluation.options = options;
  evaluation.text = source.source;
  evaluation.text_digest = digest_of(ids);
  evaluation.recall_digest = digest_of(contexts);
  evaluation.reference.format = KvFormat::of(Backend::baseline).canonical();
  if (options.agreement) {
    evaluation.reference.stored = name(ReferenceLogits::choose(model.config.vocab_size, rows()));
    evaluation.reference.rows = rows();
  }
  for (const PreparedContext& context : contexts) evaluation.contexts.push_back(context.about);
}

std::filesystem::path Evaluator::State::logits_path() const {
  if (!options.logits.empty()) return options.logits;
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
  return error ? std::filesystem::path(".") : folder;
}

SessionOptions Evaluator::State::session(int chunk) const {
  SessionOptions session;
  session.context = rows();
  session.prefill_chunk = std::min(chunk, prefilled());
  session.state = options.state;
  return session;
}

bool Evaluator::State::has(const Job& job) const {
  return std::any_of(evaluation.runs.begin(), evaluation.runs.end(), [&](const EvaluationRun& run) {
    return run.format == job.format.canonical() && run.precision == job.precision &&
           (run.recall.has_value() || !job.recall);
  });
}

// Every row but the last, whose next id is not known: first in chunks, then one by one.
template <class Row>
CacheReport Evaluator::State::feed(const Engine& engine, const KvFormat& format, int chunk, const std::string& label,
                                   const Callbacks& callbacks, const Row& row, Observer* observer) const {
  const std::unique_ptr<Session> open = engine.open(format, session(chunk));
  open->observe(observer);
  const std::span<const int> fed = fed_ids();
  const auto first = static_cast<std::size_t>(prefilled());
  PrefillOptions prefill;
  prefill.rows = row;
  prefill.progress = [&](int done) {
    say(callbacks, fmt::format("{}: {}/{} tokens", label, done, fed.size()));
    return true;
  };
  say(callbacks, fmt::format("{}: 0/{} tokens", label, fed.size()));
  open->prefill(fed.first(first), prefill);
  for (std::size_t i = first; i < fed.size(); ++i) {
    if ((i - first) % 64 == 0) say(callbacks, fmt::format("{}: {}/{} tokens", label, i, fed.size()));
    row(static_cast<int>(i), open->decode(fed[i]));
  }
  return open->cache();
}

std::unique_ptr<ReferenceLogits> Evaluator::State::baseline_logits(const Engine& engine, const std::string& label,
                                                                   const Callbacks& callbacks,
                                                                   Observer* observer) const {
  const int vocab = model.config.vocab_size;
  auto logits = std::make_unique<ReferenceLogits>(logits_path(), vocab, rows(), ReferenceLogits::choose(vocab, rows()));
  feed(
      engine, KvFormat::of(Backend::baseline), options.prefill_chunk, label, callbacks,
      [&](int row, std::span<const float> values) {
        if (row != logits->rows())
          throw Error(ErrorKind::internal, fmt::format("evaluate: row {} came where {} was due", row, logits->rows()));
        logits->append(values, ids[static_cast<std::size_t>(row) + 1]);
      },
      observer);
  return logits;
}

Agreement Evaluator::State::compare(ReferenceLogits& reference, const Engine& engine, const KvFormat& format, int chunk,
                                    const std::string& label, const Callbacks& callbacks, CacheReport* report) const {
  std::vector<RowFigures> figures;
  const CacheReport cache = feed(engine, format, chunk, label, callbacks, [&](int row, std::span<const float> values) {
    if (static_cast<std::size_t>(row) != figures.size())
      throw Error(ErrorKind::internal, fmt::format("evaluate: row {} came where {} was due", row, figures.size()));
    figures.push_back(compare_row(reference.row(row), values));
  });
  if (figures.size() != static_cast<std::size_t>(rows()))
    throw Error(ErrorKind::internal, fmt::format("evaluate: {} rows of {} came", figures.size(), rows()));
  if (report != nullptr) *report = cache;
  return agreement_of(figures, prefilled());
}

RecallResult Evaluator::State::recall(const EngineSource& engines, const KvFormat& format,
                                      const Callbacks& callbacks) const {
  const Stopwatch watch;
  const Engine& engine = engines(options.recall_precision);
  RecallRun run{engine, *model.tokenizer, model.stop_ids, options.recall_options.match, {}, {}};
  run.session.prefill_chunk = options.prefill_chunk;
  run.session.state = options.state;
  run.progress = [&](int done, int all) {
    say(callbacks, fmt::format("{}, {}: recall, context {} of {}", format.canonical(), name(options.recall_precision),
                               done + 1, all));
  };
  RecallResult result;
  result.precision = options.recall_precision;
  result.answers = ask_all(run, format, contexts);
  result.seconds = watch.seconds();
  return result;
}

void Evaluator::State::measure_noise(const EngineSource& engines, ReferenceLogits& exact, const Callbacks& callbacks) {
  const KvFormat baseline = KvFormat::of(Backend::baseline);
  const int usual = std::min(options.prefill_chunk, prefilled());
  const int other = usual > noise_chunk ? noise_chunk : std::max(1, usual / 4);
  const auto entry = [&](std::string what, Precision of, int chunk, Precision against, ReferenceLogits& reference) {
    NoiseFloor noise;
    noise.name = std::move(what);
    noise.of = noise.against = baseline.canonical();
    noise.of_precision = of;
    noise.against_precision = against;
    noise.of_chunk = chunk;
    noise.against_chunk = usual;
    noise.agreement = compare(reference, engines(of), baseline, chunk, "noise floor, " + noise.name, callbacks);
    evaluation.noise.push_back(std::move(noise));
  };
  entry(fmt::format("f32 cache, chunks of {}", other), Precision::f32, other, Precision::f32, exact);
  entry("fast path, bf16 cache", Precision::fast, usual, Precision::f32, exact);
  const auto fast = baseline_logits(engines(Precision::fast), "noise floor, fast path", callbacks);
  entry(fmt::format("fast path, bf16 cache, chunks of {}", other), Precision::fast, other, Precision::fast, *fast);
}

std::vector<KvFormat> Evaluator::State::without_codec_figures() const {
  std::vector<KvFormat> formats;
  if (!options.codec_level) return formats;
  for (const KvFormat& format : options.formats) {
    const std::string canonical = format.canonical();
    if (std::none_of(evaluation.codec.begin(), evaluation.codec.end(),
                     [&](const CodecFigures& figures) { return figures.format == canonical; }))
      formats.push_back(format);
  }
  return formats;
}

void Evaluator::State::measure_codecs(std::span<const KvFormat> formats, const Capture* capture,
                                      const Callbacks& callbacks) {
  const int dim = model.config.head_dim;
  std::vector<CodecInput> inputs = {gaussian_input(dim, gaussian_vectors), adversarial_input(dim)};
  if (capture != nullptr) {
    for (CodecInput& input : capture->inputs()) inputs.push_back(std::move(input));
  }
  for (const KvFormat& format : formats) {
    say(callbacks, fmt::format("{}: single vectors", format.canonical()));
    for (CodecFigures& figures : measure_codec(format, usual_sides(format, model.config), dim, inputs))
      evaluation.codec.push_back(std::move(figures));
  }
}

EvaluationRun Evaluator::State::run_job(const Job& job, const EngineSource& engines, ReferenceLogits* exact,
                                        const Callbacks& callbacks) const {
  const Stopwatch watch;
  EvaluationRun run;
  run.format = job.format.canonical();
  run.precision = job.precision;
  CacheReport cache;
  if (exact != nullptr) {
    const std::string label = fmt::format("{}, {}", job.format.canonical(), name(job.precision));
    run.agreement =
        compare(*exact, engines(job.precision), job.format, options.prefill_chunk, label, callbacks, &cache);
  } else {
    SessionOptions session;
    session.context = session.prefill_chunk = 1;
    session.state = options.state;
    cache = engines(job.precision).open(job.format, session)->cache();
  }
  take_storage(run, cache, model.config);
  if (job.recall) {
    const bool same = job.format == KvFormat::of(Backend::baseline);  // asked already, as the reference
    run.recall = same ? *evaluation.reference.recall : recall(engines, job.format, callbacks);
    score(*run.recall, evaluation.contexts, options.recall_options.depths, evaluation.reference.recall->answers);
  }
  run.seconds = watch.seconds();
  return run;
}

Evaluator::Evaluator(EvaluationModel model, const EvaluationText& text, EvaluateOptions options)
    : state_(std::make_unique<State>(std::move(model), text, std::move(options))) {}
Evaluator::~Evaluator() = default;
Evaluator::Evaluator(Evaluator&&) noexcept = default;

int Evaluator::replaced() const {
  return state_->replaced;
}

const Evaluation& Evaluator::evaluation() const {
  return state_->evaluation;
}

std::optional<Evaluator::Storage> Evaluator::storage() const {
  if (!state_->options.agreement) return std::nullopt;
  const int vocab = state_->model.config.vocab_size, rows = state_->rows();
  return Storage{state_->logits_path(), ReferenceLogits::bytes(vocab, rows, ReferenceLogits::choose(vocab, rows))};
}

std::vector<MemoryPlan> Evaluator::plans(std::uint64_t weight_bytes, const DeviceOptions& device) const {
  const State& state = *state_;
  std::vector<MemoryPlan> plans;
  const auto add = [&](const KvFormat& format, Precision precision, int context, int prefilled, int snapshots) {
    PlanRequest request{device, {context, std::min(state.options.prefill_chunk, prefilled), state.options.state}};
    request.device.precision = precision;
    require_precision(request.device);
    request.snapshots = snapshots;
    request.every_row = true;
    plans.push_back(plan_memory(state.model.config, weight_bytes, format, request));
  };
  std::vector<Job> jobs = jobs_of(state.options);
  const KvFormat baseline = KvFormat::of(Backend::baseline);
  jobs.push_back({baseline, Precision::f32, state.options.recall});  // the reference
  const int longest = longest_session(state.contexts, state.options.recall_options.match);
  if (state.options.agreement && state.options.noise_floor) require_precision({device.device, Precision::fast, {}});
  for (const Job& job : jobs) {
    if (state.options.agreement) add(job.format, job.precision, state.rows(), state.prefilled(), 0);
    if (job.recall) add(job.format, state.options.recall_precision, longest, longest, 1);
    if (!state.options.agreement && !job.recall) add(job.format, job.precision, 1, 1, 0);  // to see what it stores
  }
  return plans;
}

void Evaluator::resume(const std::string& file, std::string_view json, const DeviceReport& device) {
  state_->evaluation.device = device;
  take_finished(state_->evaluation, file, json);
}

const Evaluation& Evaluator::run(const EngineSource& engines, const Callbacks& callbacks) {
  State& state = *state_;
  Evaluation& evaluation = state.evaluation;
  const EvaluateOptions& options = state.options;
  std::vector<Job> jobs = jobs_of(options);
  jobs.erase(std::remove_if(jobs.begin(), jobs.end(), [&](const Job& job) { return state.has(job); }), jobs.end());
  const bool noise = options.agreement && options.noise_floor && evaluation.noise.empty();
  evaluation.device = engines(options.agreement ? options.precisions.front() : options.recall_precision).device();

  const std::vector<KvFormat> codecs = state.without_codec_figures();
  std::unique_ptr<ReferenceLogits> exact;
  std::optional<Capture> capture;
  if (options.agreement && (noise || !jobs.empty() || !codecs.empty() || !options.capture.empty())) {
    capture.emplace(state.model.config, state.fed_ids(), options.capture);
    exact = state.baseline_logits(engines(Precision::f32), "reference logits", callbacks, &*capture);
    capture->commit();
  }
  if (!codecs.empty()) state.measure_codecs(codecs, capture ? &*capture : nullptr, callbacks);
  if (options.recall && !evaluation.reference.recall) {
    evaluation.reference.recall = state.recall(engines, KvFormat::of(Backend::baseline), callbacks);
    score(*evaluation.reference.recall, evaluation.contexts, options.recall_options.depths,
          evaluation.reference.recall->answers);
  }
  if (noise) state.measure_noise(engines, *exact, callbacks);
  for (const Job& job : jobs) {
    evaluation.runs.push_back(state.run_job(job, engines, exact.get(), callbacks));
    const EvaluationRun& run = evaluation.runs.back();
    if (run.agreement) evaluation.reference.perplexity = run.agreement->all.reference_perplexity;
    if (callbacks.finished) callbacks.finished(evaluation, run);
  }
  return evaluation;
}

}  // namespace tqkv::measure
