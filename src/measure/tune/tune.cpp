#include "measure/tune/tune.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/memory_info.h"
#include "base/stopwatch.h"
#include "cache/accounting.h"
#include "codec/side_codec.h"
#include "measure/agreement/agreement.h"
#include "measure/agreement/text_ids.h"
#include "measure/figures/digest.h"
#include "measure/tune/choice.h"
#include "measure/tune/file.h"
#include "runtime/devices.h"
#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

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
  /// A format that may become the result.
  struct Pick {
    KvFormat format;
    double predicted = 0;     // sum of what its sides cost alone
    std::uint64_t bytes = 0;  // per token
    double kl = 0;            // measured, once it is
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
  std::string options_of_best(const std::vector<double>& kl) const;
  Pick best_layered(const std::string& options, std::uint64_t bytes) const;
  Pick best_uniform(const std::string& options, std::uint64_t bytes) const;
  const Pick& try_out(const Engine& engine, Pick pick, const Callbacks& callbacks);
  bool reaches(const Engine& engine, const std::string& options, std::uint64_t bytes, const Callbacks& callbacks);
  void search(const Engine& engine, const std::string& options, const Callbacks& callbacks);
  Pick choose(const Engine& engine, const std::string& options, const Callbacks& callbacks);
  std::uint64_t most_bytes() const;
  std::optional<std::uint64_t> budget() const;
  std::vector<int> bits_of(bool keys) const;
  std::uint64_t side_bytes(const SideFormat& side) const {
    return codec::side_codec(side, model.config.head_dim).vector_bytes() *
           static_cast<std::uint64_t>(model.config.num_key_value_heads);
  }
  std::string base_format() const;
  KvFormat side_format(const std::string& options, std::size_t layer, bool keys, int bits) const;
  int sides_left() const;
  int passes_left() const;
  void announce(const Engine& engine, const Callbacks& callbacks) const;

  EvaluationModel model;
  std::vector<int> layers;
  Tuning tuning;
  Text measured{false, {}, nullptr, {}}, held_out{true, {}, nullptr, {}};
  std::vector<Pick> tried;                // over the measured text
  int done = 0, done_before_choice = -1;  // -1: sides are still measured
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
  std::vector<int> ids = first_ids(*model.tokenizer, valid, 2 * options.tokens);
  if (static_cast<int>(ids.size()) < 2 * fewest_tokens)
    throw Error(ErrorKind::input, fmt::format("{}: the text has {} tokens, at least {} are needed", source.source,
                                              ids.size(), 2 * fewest_tokens));
  const auto half = static_cast<std::ptrdiff_t>(ids.size() / 2);
  measured.ids.assign(ids.begin(), ids.begin() + half);
  held_out.ids.assign(ids.begin() + half, ids.end());
  tuning.model = model.name;
  tuning.goal = options.goal;
  tuning.command = options.command;
  tuning.shape = shape_of(model.config);
  tuning.fingerprint = model.fingerprint;
  tuning.memory = total_memory();
  tuning.options = std::move(options);
  tuning.text = source.source;
  tuning.text_digest = digest_of(ids);
  tuning.tokens = static_cast<int>(measured.ids.size());
  tuning.held_out_tokens = static_cast<int>(held_out.ids.size());
  const KvFormat least = KvFormat::parse(trellis_of(2, 2, ""));
  if (const auto most = budget(); most && *most < cache::bytes_per_token(model.config, least))
    wrong(fmt::format("tune: {} bytes per token are less than 2 bits take: {}", *most,
                      cache::bytes_per_token(model.config, least)));
}

std::optional<std::uint64_t> Tuner::State::budget() const {
  const TuneGoal& goal = tuning.goal;
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

/// What a search for a KL measures: about as many as halve all sizes between 2 bits and the most.
constexpr int passes_of_search = 8;
constexpr int passes_of_choice = 2, passes_held_out = 4;

/// Passes over single sides that are not in the measurements. Which formats they are follows from the best options.
int Tuner::State::sides_left() const {
  std::vector<double> kl;
  for (const char* options : candidates)
    if (const TuneMeasurement* known = find(false, KvFormat::parse(base_format() + options).canonical()))
      kl.push_back(known->kl);
  const bool chosen = kl.size() == candidates.size();
  const std::string options = chosen ? options_of_best(kl) : "";
  int left = static_cast<int>(candidates.size() - kl.size());
  for (std::size_t i = 0; i < layers.size(); ++i)
    for (const bool keys : {true, false})
      for (const int bits : bits_of(keys))
        if (!chosen || !find(false, side_format(options, i, keys, bits).canonical())) ++left;
  return left;
}

int Tuner::State::passes_left() const {
  const int references = (measured.reference ? 0 : 1) + (held_out.reference ? 0 : 1);
  const int choice = (tuning.goal.kl ? passes_of_search : passes_of_choice) + passes_held_out;
  const int chosen = done_before_choice < 0 ? 0 : std::min(choice, done - done_before_choice);
  return references + sides_left() + choice - chosen;
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

/// Before the first pass: how many there are, and how long they take by a piece of one.
void Tuner::State::announce(const Engine& engine, const Callbacks& callbacks) const {
  if (!callbacks.note) return;
  const int probed = std::min(probed_tokens, measured.rows());
  const auto probe = engine.open(KvFormat::of(Backend::baseline), session(measured));
  const Stopwatch watch;
  probe->prefill(std::span(measured.ids).first(static_cast<std::size_t>(probed)));
  callbacks.note(fmt::format("about {} passes of {} tokens, perhaps {:.0f} min", passes_left(), measured.rows(),
                             std::ceil(watch.seconds() / probed * measured.rows() * passes_left() / 60)));
}

void Tuner::State::make_reference(const Engine& engine, Text& text, const Callbacks& callbacks) {
  const bool first = done == 0;
  if (first) announce(engine, callbacks);
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
  if (callbacks.note && first)
    callbacks.note(fmt::format("about {} passes of {} tokens are left, {:.1f} min", passes_left(), text.rows(),
                               passes_left() * seconds_of_pass / 60));
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
  if (!text.reference) make_reference(engine, text, callbacks);
  const Stopwatch watch;
  std::vector<RowFigures> rows;
  const std::string label = fmt::format("pass {} of about {}, {}", done + 1, done + passes_left(), canonical);
  feed(engine, text, format, label, callbacks,
       [&](int row, std::span<const float> logits) { rows.push_back(compare_row(text.reference->row(row), logits)); });
  ++done;
  const AgreementPart part = part_of(rows);
  tuning.measurements.push_back(
      {text.held_out, canonical, part.kl.mean, part.kl.se, part.same_top, part.ratio, watch.seconds()});
  if (callbacks.measured) callbacks.measured(tuning);
  return part.kl.mean;
}

/// A format of about the bytes that are asked for.
std::string Tuner::State::base_format() const {
  const auto most = budget();
  std::string base = trellis_of(2, 2, "");
  for (const std::string& format : {trellis_of(3, 2, ""), trellis_of(4, 2, ""), trellis_of(5, 3, "")})
    if (!most || cache::bytes_per_token(model.config, KvFormat::parse(format)) <= *most) base = format;
  return base;
}

/// The cheapest candidate of those that are close to the best; `kl` has one number a candidate.
std::string Tuner::State::options_of_best(const std::vector<double>& kl) const {
  const double best = *std::min_element(kl.begin(), kl.end());
  for (std::size_t i = 0; i < kl.size(); ++i)
    if (kl[i] <= best * (1 + close_enough)) return candidates[i];
  return candidates.back();
}

// Window, sink and mean: by what they do to the base format.
std::string Tuner::State::choose_options(const Engine& engine, const Callbacks& callbacks) {
  std::vector<double> kl;
  kl.reserve(candidates.size());
  for (const char* options : candidates)
    kl.push_back(measure(engine, measured, KvFormat::parse(base_format() + options), callbacks));
  return options_of_best(kl);
}

/// The same tokens plain where all keys are: a mean is of compressed keys.
std::string without_mean(std::string options) {
  if (const std::size_t at = options.find("mean="); at != std::string::npos) options.replace(at, 4, "sink");
  return options;
}

/// One side of a layer alone: every other side of every layer is plain.
KvFormat Tuner::State::side_format(const std::string& options, std::size_t layer, bool keys, int bits) const {
  std::vector<int> k(layers.size(), 16), v(layers.size(), 16);
  (keys ? k : v)[layer] = bits;
  return format_of(keys ? options : without_mean(options), layers, k, v);
}

void Tuner::State::measure_sides(const Engine& engine, const Callbacks& callbacks) {
  const std::string options = choose_options(engine, callbacks);
  tuning.sides.clear();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (const bool keys : {true, false}) {
      TuneSide side{layers[i], keys, {}};
      for (const int bits : bits_of(keys)) {
        const KvFormat format = side_format(options, i, keys, bits);
        const auto stored = format.sides(layers[i], static_cast<int>(i), static_cast<int>(layers.size()));
        const SideFormat& own = keys ? stored.k : stored.v;
        side.points.push_back({bits, own.describe(), side_bytes(own), measure(engine, measured, format, callbacks)});
      }
      tuning.sides.push_back(std::move(side));
    }
  }
}

/// Bits of their own for each layer, within so many bytes per token.
Tuner::State::Pick Tuner::State::best_layered(const std::string& options, std::uint64_t bytes) const {
  const std::vector<TuneSide>& sides = tuning.sides;
  const std::vector<int> chosen = choose_bits(sides, bytes).value();
  std::vector<int> k, v;
  for (std::size_t i = 0; i < sides.size(); ++i)
    (sides[i].keys ? k : v).push_back(sides[i].points[static_cast<std::size_t>(chosen[i])].bits);
  const KvFormat format = format_of(options, layers, k, v);
  return {format, sum_of_kl(sides, chosen), cache::bytes_per_token(model.config, format)};
}

/// The format with the same bits in every layer that is predicted to cost least within so many bytes per token.
Tuner::State::Pick Tuner::State::best_uniform(const std::string& options, std::uint64_t bytes) const {
  std::optional<Pick> best;
  for (const int k : bits_of(true)) {
    for (const int v : bits_of(false)) {
      if (k > most_bits || v > most_bits) continue;
      const KvFormat format = KvFormat::parse(trellis_of(k, v, options));
      Pick pick{format, 0, cache::bytes_per_token(model.config, format)};
      if (pick.bytes > bytes) continue;
      for (const TuneSide& side : tuning.sides)
        for (const TuneSide::Point& point : side.points)
          if (point.bits == (side.keys ? k : v)) pick.predicted += point.kl;
      if (!best || pick.predicted < best->predicted) best = pick;
    }
  }
  return best.value();
}

const Tuner::State::Pick& Tuner::State::try_out(const Engine& engine, Pick pick, const Callbacks& callbacks) {
  pick.kl = measure(engine, measured, pick.format, callbacks);
  return tried.emplace_back(std::move(pick));
}

/// Whether so many bytes per token are enough for the KL that is asked for.
bool Tuner::State::reaches(const Engine& engine, const std::string& options, std::uint64_t bytes,
                           const Callbacks& callbacks) {
  const double most = *tuning.goal.kl;
  return try_out(engine, best_layered(options, bytes), callbacks).kl <= most ||
         try_out(engine, best_uniform(options, bytes), callbacks).kl <= most;
}

std::uint64_t Tuner::State::most_bytes() const {
  return sum_of_bytes(tuning.sides, choose_bits(tuning.sides, UINT64_MAX).value());
}

// Halves the sizes between 2 bits everywhere and the most that helps. What sides cost together is not their sum, so
// that every answer is measured.
void Tuner::State::search(const Engine& engine, const std::string& options, const Callbacks& callbacks) {
  std::uint64_t low = cache::bytes_per_token(model.config, KvFormat::parse(trellis_of(2, 2, "")));
  std::uint64_t high =
      std::max(most_bytes(), cache::bytes_per_token(model.config, best_uniform(options, UINT64_MAX).format));
  high += 1;  // nothing reaches the goal
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (reaches(engine, options, middle, callbacks))
      high = std::min(middle, tried.back().bytes);
    else
      low = middle + 1;
  }
}

/// The result: what costs least within the budget, or, for a KL, the fewest bytes that reach it. Where nothing does,
/// what costs least.
Tuner::State::Pick Tuner::State::choose(const Engine& engine, const std::string& options, const Callbacks& callbacks) {
  tried.clear();
  done_before_choice = done;
  const std::optional<double> wanted = tuning.goal.kl;
  if (wanted) {
    search(engine, options, callbacks);
  } else {
    try_out(engine, best_layered(options, *budget()), callbacks);
    try_out(engine, best_uniform(options, *budget()), callbacks);
  }
  const auto better = [&](const Pick& a, const Pick& b) {
    const bool a_reaches = wanted && a.kl <= *wanted, b_reaches = wanted && b.kl <= *wanted;
    if (a_reaches != b_reaches) return a_reaches;
    if (a_reaches && a.bytes != b.bytes) return a.bytes < b.bytes;
    return a.kl < b.kl;
  };
  Pick best = *std::min_element(tried.begin(), tried.end(), better);
  tuning.goal_reached = !wanted || best.kl <= *wanted;
  return best;
}

Tuner::Tuner(EvaluationModel model, const EvaluationText& text, TuneOptions options)
    : state_(std::make_unique<State>(std::move(model), text, std::move(options))) {}
Tuner::~Tuner() = default;
Tuner::Tuner(Tuner&&) noexcept = default;

const Tuning& Tuner::tuning() const {
  return state_->tuning;
}

int Tuner::passes() const {
  return state_->passes_left();
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
  const TuneOptions& options = state.tuning.options;
  const int context = std::max(state.measured.rows(), state.held_out.rows());
  PlanRequest request{device, {context, std::min(options.prefill_chunk, context), options.state}};
  request.device.precision = options.precision;
  require_precision(request.device);
  request.every_row = true;
  // Nearly everything plain, and a window next to what is not.
  const MemoryPlan plain = plan_memory(state.model.config, weight_bytes, KvFormat::of(Backend::baseline), request),
                   coded = plan_memory(state.model.config, weight_bytes,
                                       KvFormat::parse("trellis:k=5:v=16:mean=64:window=128"), request);
  return plain.anonymous() > coded.anonymous() ? plain : coded;
}

void Tuner::resume(const std::string& file, std::string_view json, const DeviceReport& device) {
  state_->tuning.device = device;
  take_measurements(state_->tuning, file, json);
}

const Tuning& Tuner::run(const Engine& engine, const Callbacks& callbacks) {
  State& state = *state_;
  Tuning& tuning = state.tuning;
  tuning.device = engine.device();
  tuning.finished = false;
  state.measure_sides(engine, callbacks);
  const std::string options = state.choose_options(engine, callbacks);  // measured already
  const State::Pick best = state.choose(engine, options, callbacks);
  tuning.chosen = best.format.canonical();
  tuning.predicted_kl = best.predicted;

  const std::uint64_t bytes = state.budget().value_or(best.bytes);
  const KvFormat usual = KvFormat::usual();
  std::vector<KvFormat> compared{best.format, state.best_uniform(options, bytes).format,
                                 KvFormat::parse("turboquant:k=4:v=4"), usual};
  if (!tuning.goal.kl) compared.insert(compared.begin() + 1, state.best_layered(options, bytes).format);
  tuning.compared.clear();
  for (const KvFormat& format : compared) {
    const std::string canonical = format.canonical();
    if (std::find(tuning.compared.begin(), tuning.compared.end(), canonical) != tuning.compared.end()) continue;
    state.measure(engine, state.held_out, format, callbacks);
    tuning.compared.push_back(canonical);
  }
  const ModelConfig& config = state.model.config;
  tuning.bytes_per_token = cache::bytes_per_token(config, best.format);
  tuning.default_bytes_per_token = cache::bytes_per_token(config, usual);
  constexpr int many = 4096;
  tuning.fixed_bytes = cache::cache_bytes(config, best.format, many, StateType::f32).kv_used -
                       static_cast<std::uint64_t>(many) * tuning.bytes_per_token;
  tuning.finished = true;
  if (callbacks.measured) callbacks.measured(tuning);
  return tuning;
}

}  // namespace tqkv::measure
