#include "tqkv/tune.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/memory_info.h"
#include "cache/accounting.h"
#include "codec/side_codec.h"
#include "measure/agreement.h"
#include "measure/hash.h"
#include "measure/stopwatch.h"
#include "measure/text_ids.h"
#include "measure/tune_choice.h"
#include "measure/tune_json.h"
#include "text/utf8.h"
#include "tqkv/benchmark.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using measure::ReferenceLogits;
using measure::RowFigures;
using measure::Stopwatch;

constexpr int fewest_tokens = 512;  // of either text: windows and sinks are not to be most of it
constexpr int probed_tokens = 128;

[[noreturn]] void wrong(const std::string& problem) {
  throw Error(ErrorKind::usage, problem);
}

/// The options that are tried, the cheapest first: plain tokens cost bytes, whatever the length of the text.
constexpr std::array<const char*, 6> candidates{
    "", ":sink=4", ":mean=16", ":window=128", ":mean=16:window=128", ":mean=64:window=128"};
/// A candidate is taken instead of a better one that is dearer when it is worse by at most this share.
constexpr double close_enough = 0.05;

constexpr int most_bits = 5;  // of a coded side; 8 are affine codes, which `layers` alone has

std::vector<int> attention_layers(const ModelConfig& config) {
  std::vector<int> layers;
  for (int i = 0; i < config.num_layers(); ++i)
    if (config.layers[static_cast<std::size_t>(i)] == LayerKind::full_attention) layers.push_back(i);
  return layers;
}

/// The bits that most layers have, of those that a whole format can have.
int usual_bits(const std::vector<int>& bits) {
  std::map<int, int> counts;
  for (const int one : bits)
    if (one <= most_bits) ++counts[one];
  int usual = 4, layers = 0;
  for (const auto& [value, count] : counts)
    if (count > layers) {
      usual = value;
      layers = count;
    }
  return usual;
}

std::string trellis_of(int k, int v, const std::string& options) {
  return fmt::format("trellis:k={}:v={}{}", k, v, options);
}

/// A format with bits for each attention layer, 16 for plain sides.
KvFormat format_of(const std::string& options, const std::vector<int>& layers, const std::vector<int>& k,
                   const std::vector<int>& v) {
  const int usual_k = usual_bits(k), usual_v = usual_bits(v);
  std::string list;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (k[i] == usual_k && v[i] == usual_v) continue;
    list += fmt::format("{}{}/k={}/v={}", list.empty() ? ":layers=" : ",", layers[i], k[i], v[i]);
  }
  return KvFormat::parse(trellis_of(usual_k, usual_v, options) + list);
}

}  // namespace

struct Tuner::State {
  /// One of the two texts.
  struct Text {
    bool held_out;
    std::vector<int> ids;
    std::unique_ptr<ReferenceLogits> reference;
    std::vector<RowFigures> plain;  // of the reference with itself

    int rows() const { return static_cast<int>(ids.size()) - 1; }
  };

  State(EvaluationModel a_model, const EvaluationText& source, TuneOptions options);

  SessionOptions session(const Text& text) const;
  template <class Row>
  void feed(const Engine& engine, const Text& text, const KvFormat& format, const std::string& label,
            const Callbacks& callbacks, const Row& row) const;
  void make_reference(const Engine& engine, Text& text, const Callbacks& callbacks);
  const TuneMeasurement* find(bool held_out, const std::string& format) const;
  double measure(const Engine& engine, Text& text, const KvFormat& format, const Callbacks& callbacks);
  std::string choose_options(const Engine& engine, const Callbacks& callbacks);
  void measure_sides(const Engine& engine, const Callbacks& callbacks);
  KvFormat best_format(const std::string& options, std::optional<double> kl, double& predicted) const;
  KvFormat best_uniform(const std::string& options, std::optional<std::uint64_t> bytes, double& predicted) const;
  std::optional<std::uint64_t> budget() const;
  std::vector<int> bits_of(bool keys) const;
  std::uint64_t side_bytes(const SideFormat& side) const {
    return codec::side_codec(side, model.config.head_dim).vector_bytes() *
           static_cast<std::uint64_t>(model.config.num_key_value_heads);
  }
  int all_passes() const;

  EvaluationModel model;
  std::vector<int> layers;
  Tuning tuning;
  Text measured{false, {}, nullptr, {}}, held_out{true, {}, nullptr, {}};
  int done = 0;
  double seconds_of_pass = 0;
};

Tuner::State::State(EvaluationModel a_model, const EvaluationText& source, TuneOptions options)
    : model(std::move(a_model)), layers(attention_layers(model.config)) {
  const TuneGoal& goal = options.goal;
  const int goals = (goal.bits ? 1 : 0) + (goal.bytes_per_token ? 1 : 0) + (goal.kl ? 1 : 0);
  if (goals != 1) wrong("tune: one goal is needed: bits, bytes per token or KL");
  if (goal.bits && !(*goal.bits >= 2 && *goal.bits <= 8)) wrong("tune: bits per value lie between 2 and 8");
  if (goal.kl && !(*goal.kl > 0)) wrong("tune: a mean KL is a positive number");
  if (layers.empty()) wrong("tune: the model has no layer with a key-value cache");
  if (options.tokens < fewest_tokens || options.tokens > model.config.max_position_embeddings)
    wrong(fmt::format("tune: {} tokens are not between {} and {}", options.tokens, fewest_tokens,
                      model.config.max_position_embeddings));
  std::string valid;
  text::append_lossy(valid, source.text);
  std::vector<int> ids = measure::first_ids(*model.tokenizer, valid, 2 * options.tokens);
  if (static_cast<int>(ids.size()) < 2 * fewest_tokens)
    throw Error(ErrorKind::input, fmt::format("{}: the text has {} tokens, at least {} are needed", source.source,
                                              ids.size(), 2 * fewest_tokens));
  const auto half = static_cast<std::ptrdiff_t>(ids.size() / 2);
  measured.ids.assign(ids.begin(), ids.begin() + half);
  held_out.ids.assign(ids.begin() + half, ids.end());
  tuning.model = model.name;
  tuning.shape = shape_of(model.config);
  tuning.fingerprint = model.fingerprint;
  tuning.memory = total_memory();
  tuning.options = std::move(options);
  tuning.text = source.source;
  tuning.text_digest = measure::digest_of(ids);
  tuning.tokens = static_cast<int>(measured.ids.size());
  tuning.held_out_tokens = static_cast<int>(held_out.ids.size());
  const KvFormat least = KvFormat::parse(trellis_of(2, 2, ""));
  if (const auto most = budget(); most && *most < cache::bytes_per_token(model.config, least))
    wrong(fmt::format("tune: {} bytes per token are less than 2 bits take: {}", *most,
                      cache::bytes_per_token(model.config, least)));
}

std::optional<std::uint64_t> Tuner::State::budget() const {
  const TuneGoal& goal = tuning.options.goal;
  if (goal.kl) return std::nullopt;
  if (goal.bytes_per_token) return goal.bytes_per_token;
  const double vectors = 2.0 * static_cast<double>(layers.size()) * model.config.num_key_value_heads;
  return static_cast<std::uint64_t>(std::floor(vectors * (*goal.bits * model.config.head_dim / 8 + 2) + 1e-6));
}

// 5 bits for values and 8 for either are measured where the budget could reach them.
std::vector<int> Tuner::State::bits_of(bool keys) const {
  const auto most = budget();
  if (!most || *most > cache::bytes_per_token(model.config, KvFormat::parse(trellis_of(5, 4, ""))))
    return {2, 3, 4, 5, 8};
  return keys ? std::vector<int>{2, 3, 4, 5} : std::vector<int>{2, 3, 4};
}

int Tuner::State::all_passes() const {
  const std::size_t sides = layers.size() * (bits_of(true).size() + bits_of(false).size());
  return static_cast<int>(2 + candidates.size() + sides + 2 + 4);  // references, options, sides, result, held out
}

SessionOptions Tuner::State::session(const Text& text) const {
  SessionOptions session;
  session.context = text.rows();
  session.prefill_chunk = std::min(tuning.options.prefill_chunk, text.rows());
  session.state = tuning.options.state;
  return session;
}

template <class Row>
void Tuner::State::feed(const Engine& engine, const Text& text, const KvFormat& format, const std::string& label,
                        const Callbacks& callbacks, const Row& row) const {
  PrefillOptions prefill;
  prefill.rows = row;
  prefill.progress = [&](int tokens) {
    if (callbacks.progress) callbacks.progress(fmt::format("{}: {}/{} tokens", label, tokens, text.rows()));
    return true;
  };
  engine.open(format, session(text))
      ->prefill(std::span(text.ids).first(static_cast<std::size_t>(text.rows())), prefill);
}

void Tuner::State::make_reference(const Engine& engine, Text& text, const Callbacks& callbacks) {
  const int vocab = model.config.vocab_size;
  text.reference = std::make_unique<ReferenceLogits>(std::filesystem::temp_directory_path(), vocab, text.rows(),
                                                     ReferenceLogits::choose(vocab, text.rows()));
  const Stopwatch watch;
  feed(engine, text, KvFormat::of(Backend::baseline), text.held_out ? "held-out text" : "reference", callbacks,
       [&](int row, std::span<const float> logits) {
         text.reference->append(logits, text.ids[static_cast<std::size_t>(row) + 1]);
       });
  seconds_of_pass = watch.seconds();
  ++done;
}

const TuneMeasurement* Tuner::State::find(bool is_held_out, const std::string& format) const {
  for (const TuneMeasurement& one : tuning.measurements)
    if (one.held_out == is_held_out && one.format == format) return &one;
  return nullptr;
}

/// Mean KL of a format over a text: measured once.
double Tuner::State::measure(const Engine& engine, Text& text, const KvFormat& format, const Callbacks& callbacks) {
  const std::string canonical = format.canonical();
  if (const TuneMeasurement* known = find(text.held_out, canonical)) return known->kl;
  if (!text.reference) {
    make_reference(engine, text, callbacks);
    if (callbacks.note && !text.held_out)
      callbacks.note(fmt::format("about {} passes of {} tokens are left, {:.1f} min", all_passes() - done, text.rows(),
                                 (all_passes() - done) * seconds_of_pass / 60));
  }
  const Stopwatch watch;
  std::vector<RowFigures> rows;
  const std::string label = fmt::format("pass {} of about {}, {}", done + 1, all_passes(), canonical);
  feed(engine, text, format, label, callbacks, [&](int row, std::span<const float> logits) {
    rows.push_back(measure::compare_row(text.reference->row(row), logits));
  });
  ++done;
  const AgreementPart part = measure::part_of(rows);
  tuning.measurements.push_back(
      {text.held_out, canonical, part.kl.mean, part.kl.se, part.same_top, part.ratio, watch.seconds()});
  if (callbacks.measured) callbacks.measured(tuning);
  return part.kl.mean;
}

// Window, sink and mean: by what they do to a format of about the bytes that are asked for.
std::string Tuner::State::choose_options(const Engine& engine, const Callbacks& callbacks) {
  const auto most = budget();
  const auto fits = [&](const std::string& format) {
    return !most || cache::bytes_per_token(model.config, KvFormat::parse(format)) <= *most;
  };
  std::string base = trellis_of(2, 2, "");
  for (const std::string& format : {trellis_of(3, 2, ""), trellis_of(4, 2, ""), trellis_of(5, 3, "")})
    if (fits(format)) base = format;
  std::vector<double> kl;
  for (const char* options : candidates)
    kl.push_back(measure(engine, measured, KvFormat::parse(base + options), callbacks));
  const double best = *std::min_element(kl.begin(), kl.end());
  for (std::size_t i = 0; i < kl.size(); ++i)
    if (kl[i] <= best * (1 + close_enough)) return candidates[i];
  return candidates.back();
}

// Every other side of every layer is plain.
void Tuner::State::measure_sides(const Engine& engine, const Callbacks& callbacks) {
  const std::string options = choose_options(engine, callbacks);
  // A mean is of compressed keys: where these are plain, its tokens stay in the sink.
  tuning.sides.clear();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (const bool keys : {true, false}) {
      TuneSide side{layers[i], keys, {}};
      for (const int bits : bits_of(keys)) {
        std::vector<int> k(layers.size(), 16), v(layers.size(), 16);
        (keys ? k : v)[i] = bits;
        const KvFormat format = format_of(options, layers, k, v);
        const auto stored = format.sides(layers[i], static_cast<int>(i), static_cast<int>(layers.size()));
        const SideFormat& own = keys ? stored.k : stored.v;
        side.points.push_back({bits, own.describe(), side_bytes(own), measure(engine, measured, format, callbacks)});
      }
      tuning.sides.push_back(std::move(side));
    }
  }
}

KvFormat Tuner::State::best_format(const std::string& options, std::optional<double> kl, double& predicted) const {
  const std::vector<TuneSide>& sides = tuning.sides;
  const std::vector<int> chosen = measure::choose_bits(sides, budget(), kl).value();
  predicted = measure::sum_of_kl(sides, chosen);
  std::vector<int> k, v;
  for (std::size_t i = 0; i < sides.size(); ++i)
    (sides[i].keys ? k : v).push_back(sides[i].points[static_cast<std::size_t>(chosen[i])].bits);
  return format_of(options, layers, k, v);
}

/// The format with the same bits in every layer that is predicted to cost least within so many bytes.
KvFormat Tuner::State::best_uniform(const std::string& options, std::optional<std::uint64_t> bytes,
                                    double& predicted) const {
  std::optional<KvFormat> best;
  for (const int k : bits_of(true)) {
    for (const int v : bits_of(false)) {
      if (k > most_bits || v > most_bits) continue;
      const KvFormat format = KvFormat::parse(trellis_of(k, v, options));
      if (bytes && cache::bytes_per_token(model.config, format) > *bytes) continue;
      double sum = 0;
      for (const TuneSide& side : tuning.sides)
        for (const TuneSide::Point& point : side.points)
          if (point.bits == (side.keys ? k : v)) sum += point.kl;
      if (best && sum >= predicted) continue;
      best = format;
      predicted = sum;
    }
  }
  return best.value();
}

Tuner::Tuner(EvaluationModel model, const EvaluationText& text, TuneOptions options)
    : state_(std::make_unique<State>(std::move(model), text, std::move(options))) {}
Tuner::~Tuner() = default;
Tuner::Tuner(Tuner&&) noexcept = default;

const Tuning& Tuner::tuning() const {
  return state_->tuning;
}

int Tuner::passes() const {
  return std::max(0, state_->all_passes() - static_cast<int>(state_->tuning.measurements.size()));
}

std::uint64_t Tuner::storage() const {
  std::uint64_t bytes = 0;
  const int vocab = state_->model.config.vocab_size;
  for (const State::Text* text : {&state_->measured, &state_->held_out})
    bytes += ReferenceLogits::bytes(vocab, text->rows(), ReferenceLogits::choose(vocab, text->rows()));
  return bytes;
}

MemoryPlan Tuner::plan(std::uint64_t weight_bytes, const DeviceOptions& device) const {
  const State& state = *state_;
  PlanRequest request;
  request.context = std::max(state.measured.rows(), state.held_out.rows());
  request.precision = state.tuning.options.precision;
  request.state = state.tuning.options.state;
  request.prefill_chunk = std::min(state.tuning.options.prefill_chunk, request.context);
  request.threads = device.threads;
  request.every_row = true;
  // Nearly everything plain, and a window next to what is not.
  const MemoryPlan plain = plan_memory(state.model.config, weight_bytes, KvFormat::of(Backend::baseline), request),
                   coded = plan_memory(state.model.config, weight_bytes,
                                       KvFormat::parse("trellis:k=5:v=16:mean=64:window=128"), request);
  return plain.anonymous() > coded.anonymous() ? plain : coded;
}

void Tuner::resume(const std::string& file, std::string_view json, const DeviceReport& device) {
  state_->tuning.device = device;
  measure::take_measurements(state_->tuning, file, json);
}

const Tuning& Tuner::run(const Engine& engine, const Callbacks& callbacks) {
  State& state = *state_;
  Tuning& tuning = state.tuning;
  tuning.device = engine.device();
  tuning.finished = false;
  if (callbacks.note) {
    const int probed = std::min(probed_tokens, state.measured.rows());
    SessionOptions session = state.session(state.measured);
    const auto probe = engine.open(KvFormat::of(Backend::baseline), session);
    const Stopwatch watch;
    probe->prefill(std::span(state.measured.ids).first(static_cast<std::size_t>(probed)));
    callbacks.note(fmt::format("about {} passes of {} tokens, perhaps {:.0f} min", passes(), state.measured.rows(),
                               std::ceil(watch.seconds() / probed * state.measured.rows() * passes() / 60)));
  }
  state.measure_sides(engine, callbacks);
  const std::string options = state.choose_options(engine, callbacks);  // measured already

  const std::optional<double> wanted = tuning.options.goal.kl;
  double predicted = 0;
  KvFormat best = state.best_format(options, wanted, predicted);
  double kl = state.measure(engine, state.measured, best, callbacks);
  // What sides cost together is not their sum to the last percent: a goal that was missed is set lower.
  for (int round = 0; wanted && kl > *wanted && round < 3; ++round) {
    best = state.best_format(options, *wanted * *wanted / kl * std::pow(0.9, round), predicted);
    kl = state.measure(engine, state.measured, best, callbacks);
  }
  const std::uint64_t bytes = cache::bytes_per_token(state.model.config, best);
  double uniform_predicted = 0;
  const KvFormat uniform = state.best_uniform(options, state.budget().value_or(bytes), uniform_predicted);
  const double uniform_kl = state.measure(engine, state.measured, uniform, callbacks);
  tuning.chosen = uniform_kl < kl ? uniform : best;
  tuning.predicted_kl = uniform_kl < kl ? uniform_predicted : predicted;

  const KvFormat usual = KvFormat::usual();
  tuning.compared.clear();
  for (const KvFormat& format : {tuning.chosen, best, uniform, KvFormat::parse("turboquant:k=4:v=4"), usual}) {
    const std::string canonical = format.canonical();
    if (std::find(tuning.compared.begin(), tuning.compared.end(), canonical) != tuning.compared.end()) continue;
    state.measure(engine, state.held_out, format, callbacks);
    tuning.compared.push_back(canonical);
  }
  const ModelConfig& config = state.model.config;
  tuning.bytes_per_token = cache::bytes_per_token(config, tuning.chosen);
  tuning.default_bytes_per_token = cache::bytes_per_token(config, usual);
  constexpr int many = 4096;
  tuning.fixed_bytes = cache::cache_bytes(config, tuning.chosen, many, StateType::f32).kv_used -
                       static_cast<std::uint64_t>(many) * tuning.bytes_per_token;
  tuning.finished = true;
  if (callbacks.measured) callbacks.measured(tuning);
  return tuning;
}

}  // namespace tqkv
