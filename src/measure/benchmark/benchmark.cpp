#include "measure/benchmark/benchmark.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/memory_info.h"
#include "base/stopwatch.h"
#include "cache/accounting.h"
#include "measure/figures/digest.h"
#include "measure/figures/kl.h"
#include "measure/figures/memory_peak.h"
#include "runtime/devices.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

// The ids of one pass, cut from the one stream that all passes share.
struct Passage {
  std::span<const int> prompt, forced;
};

// One format, with the session that waits at a depth. A lane that is not timed is there to be compared with.
struct Lane {
  KvFormat format;
  bool timed = true;
  std::unique_ptr<Session> session;
  std::unique_ptr<Snapshot> at_depth;
};

void require_range(const char* what, const std::vector<int>& values, int least) {
  if (values.empty()) throw Error(ErrorKind::usage, fmt::format("benchmark: no {} were given", what));
  for (const int value : values) {
    if (value >= least && value <= 1 << 24) continue;
    throw Error(ErrorKind::usage,
                fmt::format("benchmark: {} {}, a number from {} to {} was expected", what, value, least, 1 << 24));
  }
}

std::vector<int> ascending(std::vector<int> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

std::vector<int> without_repeats(const std::vector<int>& values) {
  std::vector<int> kept;
  for (const int value : values) {
    if (std::find(kept.begin(), kept.end(), value) == kept.end()) kept.push_back(value);
  }
  return kept;
}

// Every depth with every P and every G; depths upward, P and G as asked.
std::vector<Lengths> lengths_of(const BenchmarkOptions& options) {
  require_range("prompt tokens", options.prompt_tokens, 1);
  require_range("generation tokens", options.generation_tokens, 1);
  require_range("depths", options.depths, 0);
  std::vector<Lengths> all;
  for (const int depth : ascending(options.depths)) {
    for (const int prompt : without_repeats(options.prompt_tokens)) {
      for (const int generation : without_repeats(options.generation_tokens))
        all.push_back({prompt, generation, depth});
    }
  }
  return all;
}

int longest_context(const std::vector<Lengths>& lengths) {
  int longest = 0;
  for (const Lengths& one : lengths) longest = std::max(longest, one.context());
  return longest;
}

bool keeps_sessions(const BenchmarkOptions& options) {
  return std::any_of(options.depths.begin(), options.depths.end(), [](int depth) { return depth > 0; });
}

std::size_t baseline_of(const std::vector<Lane>& lanes) {
  const auto found = std::find_if(lanes.begin(), lanes.end(),
                                  [](const Lane& lane) { return lane.format.backend == Backend::baseline; });
  return static_cast<std::size_t>(found - lanes.begin());
}

std::vector<Lane> lanes_of(const BenchmarkOptions& options) {
  if (options.formats.empty()) throw Error(ErrorKind::usage, "benchmark: no backend was given");
  if (options.trials < 1 || options.trials > 10'000) {
    throw Error(ErrorKind::usage,
                fmt::format("benchmark: {} trials, a number from 1 to 10000 was expected", options.trials));
  }
  std::vector<Lane> lanes;
  for (const KvFormat& format : options.formats) {
    const bool twice = std::any_of(lanes.begin(), lanes.end(), [&](const Lane& lane) { return lane.format == format; });
    if (twice) {
      throw Error(ErrorKind::usage, fmt::format("benchmark: {} was given twice: once is enough", format.canonical()));
    }
    lanes.push_back({format, true, nullptr, nullptr});
  }
  if (options.check && baseline_of(lanes) == lanes.size()) {
    lanes.push_back({KvFormat::of(Backend::baseline), false, nullptr, nullptr});
  }
  return lanes;
}

// KL is measured when there is something to compare, or on request.
bool measures_quality(const std::vector<Lane>& lanes, const BenchmarkOptions& options) {
  return baseline_of(lanes) < lanes.size() && (options.check || lanes.size() > 1);
}

std::string label(const Lengths& lengths) {
  return fmt::format("{}+{} at depth {}", lengths.prompt_tokens, lengths.generation_tokens, lengths.depth);
}

class Benchmark {
 public:
  Benchmark(const Engine& engine, std::span<const int> ids, const BenchmarkOptions& options)
      : engine_(engine), ids_(ids), options_(options), lengths_(lengths_of(options)), lanes_(lanes_of(options)) {
    const std::size_t needed = static_cast<std::size_t>(ids_needed(options));
    if (ids.size() < needed) {
      throw Error(
          ErrorKind::input,
          fmt::format("benchmark: {} ids were given, but the longest run feeds {}: give a longer text or ask for "
                      "fewer tokens",
                      ids.size(), needed));
    }
    const int context = longest_context(lengths_);
    if (context > engine.config().max_position_embeddings) {
      throw Error(ErrorKind::usage,
                  fmt::format("benchmark: depth, prompt and generation take {} tokens, but the model was "
                              "made for at most {}: ask for fewer",
                              context, engine.config().max_position_embeddings));
    }
    if (options.context != 0 && options.context < context) {
      throw Error(ErrorKind::usage,
                  fmt::format("benchmark: a context of {} tokens was asked for, but the longest run takes {}",
                              options.context, context));
    }
  }

  std::vector<BenchmarkRun> run() {
    const bool keep = keeps_sessions(options_);
    std::vector<BenchmarkRun> runs;
    for (const Lengths& lengths : lengths_) {
      if (keep) reach(lengths.depth);
      std::vector<BenchmarkRun> here = time_lanes(lengths);
      if (measures_quality(lanes_, options_)) add_quality(lengths, here);
      runs.insert(runs.end(), std::make_move_iterator(here.begin()), std::make_move_iterator(here.end()));
    }
    return runs;
  }

 private:
  void say(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }

  Passage passage(const Lengths& lengths) const {
    const auto depth = static_cast<std::size_t>(lengths.depth),
               prompt = static_cast<std::size_t>(lengths.prompt_tokens);
    return {ids_.subspan(depth, prompt),
            ids_.subspan(depth + prompt, static_cast<std::size_t>(lengths.generation_tokens - 1))};
  }

  std::unique_ptr<Session> open(const KvFormat& format, int context) const {
    SessionOptions session;
    session.context = options_.context != 0 ? options_.context : context;
    session.prefill_chunk = options_.prefill_chunk;
    session.state = options_.state;
    return engine_.open(format, session);
  }

  // Walks every lane on to `depth` by real forward passes; each goes on from its last depth.
  void reach(int depth) {
    for (Lane& lane : lanes_) {
      if (lane.at_depth && lane.at_depth->position() == depth) continue;
      if (!lane.session) {
        lane.session = open(lane.format, longest_context(lengths_));
      } else {
        lane.session->restore(*lane.at_depth);
      }
      const int from = lane.session->position();
      if (depth > from) {
        say(fmt::format("{}: to depth {}", lane.format.canonical(), depth));
        lane.session->prefill(ids_.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(depth - from)));
      }
      lane.at_depth = lane.session->snapshot();
    }
  }

  // The session of a lane at its depth; without depths a new one, kept by the caller for as long as it is needed.
  Session& ready(Lane& lane, const Lengths& lengths, std::unique_ptr<Session>& opened) {
    if (lane.session) {
      lane.session->restore(*lane.at_depth);
      return *lane.session;
    }
    opened = open(lane.format, lengths.context());
    return *opened;
  }

  Trial time_pass(Session& session, const Passage& ids) const {
    Trial trial;
    MemoryPeak peak;
    Digest digest;
    double beside = 0;  // seconds of our own work within prefill
    PrefillOptions prefill;
    prefill.progress = [&](int) {
      const Stopwatch own;
      peak.sample();
      beside += own.seconds();
      return true;
    };
    const double encoded_before = session.cache().encode_s;
    const Stopwatch watch;
    std::span<const float> logits = session.prefill(ids.prompt, prefill);
    trial.prompt_s = watch.seconds() - beside;
    trial.encode_s = session.cache().encode_s - encoded_before;
    digest.add(argmax(logits));
    for (const int id : ids.forced) {
      const Stopwatch step;
      logits = session.decode(id);
      trial.decode_s += step.seconds();
      digest.add(argmax(logits));
      peak.sample();
    }
    trial.prompt_tps = static_cast<double>(ids.prompt.size()) / trial.prompt_s;
    if (!ids.forced.empty()) {
      trial.generation_tps = static_cast<double>(ids.forced.size()) / trial.decode_s;
      trial.generation_tps_mlx = static_cast<double>(ids.forced.size() + 1) / trial.decode_s;
    }
    trial.weights = engine_.checkpoint().tensor_bytes();
    trial.peak_anonymous = peak.bytes();
    trial.digest = digest.hex();
    return trial;
  }

  Trial trial_of(Lane& lane, const Lengths& lengths, int order, BenchmarkRun& run) {
    release_freed_memory();
    std::unique_ptr<Session> opened;
    Session& session = ready(lane, lengths, opened);
    Trial trial = time_pass(session, passage(lengths));
    trial.order = order;
    const CacheReport cache = session.cache();
    trial.cache = cache.bytes;
    run.format = cache.format.canonical();
    run.layers = cache::describe(cache.layers);
    run.activation_bits = cache.activation_bits;
    return trial;
  }

  std::vector<BenchmarkRun> time_lanes(const Lengths& lengths) {
    std::vector<Lane*> timed;
    for (Lane& lane : lanes_) {
      if (lane.timed) timed.push_back(&lane);
    }
    std::vector<BenchmarkRun> runs(timed.size());
    for (std::size_t i = 0; i < timed.size(); ++i) {
      say(fmt::format("{}, {}: warm-up", label(lengths), timed[i]->format.canonical()));
      BenchmarkRun& run = runs[i];
      run.lengths = lengths;
      run.open_sessions = keeps_sessions(options_) ? static_cast<int>(lanes_.size()) : 1;
      run.ids_digest = digest_of(ids_.first(static_cast<std::size_t>(lengths.fed())));
      run.warmup = trial_of(*timed[i], lengths, static_cast<int>(i), run);
      run.predicted = cache::cache_bytes(engine_.config(), KvFormat::parse(run.format), lengths.fed(), options_.state,
                                         engine_.device().precision, kind_of(engine_.device().device).allocation);
    }
    for (int round = 0; round < options_.trials; ++round) {
      for (std::size_t place = 0; place < timed.size(); ++place) {
        const std::size_t i = (place + static_cast<std::size_t>(round)) % timed.size();
        say(fmt::format("{}, {}: trial {} of {}", label(lengths), timed[i]->format.canonical(), round + 1,
                        options_.trials));
        runs[i].trials.push_back(trial_of(*timed[i], lengths, static_cast<int>(place), runs[i]));
      }
    }
    const auto baseline =
        std::find_if(runs.begin(), runs.end(), [](const BenchmarkRun& run) { return run.baseline(); });
    if (baseline == runs.end()) return runs;
    for (BenchmarkRun& run : runs) run.ratios = ratios_of(run, *baseline, true);
    return runs;
  }

  // Both sessions take the same steps, so that one row of logits is kept at a time.
  static Quality compare_to_baseline(Session& baseline, Session& other, const Passage& ids) {
    Quality quality;
    int same = 0;
    std::vector<float> reference;
    const auto add_row = [&](std::span<const float> logits) {
      quality.mean_kl += kl_divergence(reference, logits);
      same += argmax(reference) == argmax(logits) ? 1 : 0;
      ++quality.rows;
    };
    const auto keep = [&](std::span<const float> logits) { reference.assign(logits.begin(), logits.end()); };
    keep(baseline.prefill(ids.prompt));
    add_row(other.prefill(ids.prompt));
    for (const int id : ids.forced) {
      keep(baseline.decode(id));
      add_row(other.decode(id));
    }
    quality.mean_kl /= quality.rows;
    quality.same_top = static_cast<double>(same) / quality.rows;
    return quality;
  }

  void add_quality(const Lengths& lengths, std::vector<BenchmarkRun>& runs) {
    const std::size_t reference = baseline_of(lanes_);
    for (std::size_t i = 0; i < runs.size(); ++i) {  // timed lanes come first
      if (i == reference) {
        runs[i].quality = Quality{lengths.generation_tokens, 0.0, 1.0};  // by definition
        continue;
      }
      say(fmt::format("{}, {}: against baseline", label(lengths), lanes_[i].format.canonical()));
      std::unique_ptr<Session> opened_baseline, opened;
      Session& baseline = ready(lanes_[reference], lengths, opened_baseline);
      Session& other = ready(lanes_[i], lengths, opened);
      runs[i].quality = compare_to_baseline(baseline, other, passage(lengths));
    }
  }

  const Engine& engine_;
  std::span<const int> ids_;
  const BenchmarkOptions& options_;
  std::vector<Lengths> lengths_;
  std::vector<Lane> lanes_;
};

}  // namespace

int ids_needed(const BenchmarkOptions& options) {
  return longest_context(lengths_of(options)) - 1;
}

std::vector<MemoryPlan> plan_benchmark(const ModelConfig& config, std::uint64_t weight_bytes,
                                       const DeviceOptions& device, const BenchmarkOptions& options) {
  const std::vector<Lane> lanes = lanes_of(options);
  const bool keep = keeps_sessions(options);
  const bool quality = measures_quality(lanes, options);
  const int context = options.context != 0 ? options.context : longest_context(lengths_of(options));
  PlanRequest request{device, {context, options.prefill_chunk, options.state}};
  request.snapshots = keep ? 1 : 0;

  std::vector<MemoryPlan> alone;
  alone.reserve(lanes.size());
  for (const Lane& lane : lanes) alone.push_back(plan_memory(config, weight_bytes, lane.format, request));
  const auto session_bytes = [](const MemoryPlan& plan) { return plan.anonymous() - plan.vocabulary; };
  std::vector<MemoryPlan> plans;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    if (!lanes[i].timed) continue;
    request.other_sessions = 0;
    for (std::size_t j = 0; j < lanes.size(); ++j) {
      const bool together = keep || (quality && j == baseline_of(lanes));
      if (j != i && together) request.other_sessions += session_bytes(alone[j]);
    }
    plans.push_back(plan_memory(config, weight_bytes, lanes[i].format, request));
  }
  return plans;
}

BenchmarkReport run_benchmark(const Engine& engine, std::span<const int> ids, const BenchmarkOptions& options) {
  Benchmark benchmark(engine, ids, options);
  BenchmarkReport report;
  static_cast<Measured&>(report) = measured_on(engine, options.model);
  report.state = options.state;
  report.prefill_chunk = options.prefill_chunk;
  report.ids = options.ids;
  report.runs = benchmark.run();
  return report;
}

}  // namespace tqkv::measure
