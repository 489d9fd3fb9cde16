// How many tokens per second several sessions make in one step, against one of them and against what bytes allow.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/stopwatch.h"
#include "measure/benchmark/benchmark.h"
#include "measure/benchmark/table_text.h"
#include "measure/figures/statistics.h"
#include "measure/figures/text_table.h"
#include "measure/files/measured.h"
#include "measure/files/speed_fields.h"
#include "runtime/plan/weight_reads.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

constexpr int most_sessions = 256, most_tokens = 1 << 20;

void require(bool good, const std::string& problem) {
  if (!good) throw Error(ErrorKind::usage, "benchmark: " + problem);
}

/// The numbers of sessions, ascending.
std::vector<int> counts_of(const SessionsOptions& options) {
  require(!options.formats.empty(), "no backend was given");
  require(!options.sessions.empty(), "no number of sessions was given");
  std::vector<int> counts = options.sessions;
  std::sort(counts.begin(), counts.end());
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  for (const int count : counts)
    require(count >= 1 && count <= most_sessions,
            fmt::format("{} sessions, a number from 1 to {} was expected", count, most_sessions));
  for (const int tokens : {options.depth, options.steps})
    require(tokens >= 1 && tokens <= most_tokens,
            fmt::format("{} tokens, a number from 1 to {} was expected", tokens, most_tokens));
  require(options.trials >= 1 && options.trials <= 10'000,
          fmt::format("{} trials, a number from 1 to 10000 was expected", options.trials));
  return counts;
}

/// Tokens of one session at the end.
int tokens_of(const SessionsOptions& options) {
  return options.depth + options.steps;
}

/// Weights once, each expert that is chosen once, and for each session, whose cache is `cache`, its keys and values and
/// its state, which is written again.
double bytes_of_step(const ModelConfig& config, const CacheBytes& cache, int sessions) {
  const WeightReads reads = weight_reads(config);
  return static_cast<double>(reads.dense) + reads.of_experts(sessions) +
         sessions * (static_cast<double>(cache.kv_used) + 2.0 * static_cast<double>(cache.state()));
}

class Company {
 public:
  Company(const Engine& engine, std::span<const int> ids, const SessionsOptions& options)
      : engine_(engine), ids_(ids), options_(options), counts_(counts_of(options)) {
    const int needed = ids_needed(options);
    if (ids.size() < static_cast<std::size_t>(needed))
      throw Error(ErrorKind::input, fmt::format("benchmark: {} ids were given, but the sessions feed {}: give a longer "
                                                "text or ask for fewer tokens",
                                                ids.size(), needed));
    require(tokens_of(options) <= engine.config().max_position_embeddings,
            fmt::format("depth and steps take {} tokens, but the model was made for at most {}: ask for fewer",
                        tokens_of(options), engine.config().max_position_embeddings));
  }

  std::vector<SessionsRun> run(const KvFormat& format) {
    open(format);
    std::vector<SessionsRun> runs;
    const CacheReport cache = sessions_.front()->cache();
    const double alone = bytes_of_step(engine_.config(), cache.bytes, 1);
    for (const int count : counts_) {
      const double bytes = bytes_of_step(engine_.config(), cache.bytes, count);
      runs.push_back(
          {cache.format.canonical(), count, {}, static_cast<std::uint64_t>(bytes), count * alone / bytes, {}, {}});
    }
    say(format, "warm-up");
    time(counts_.back());
    for (int round = 0; round < options_.trials; ++round) {
      for (std::size_t place = 0; place < runs.size(); ++place) {
        SessionsRun& run = runs[(place + static_cast<std::size_t>(round)) % runs.size()];
        say(format, fmt::format("{} sessions, trial {} of {}", run.sessions, round + 1, options_.trials));
        run.tps.push_back(run.sessions * options_.steps / time(run.sessions));
      }
    }
    sessions_.clear();
    at_depth_.clear();
    for (SessionsRun& run : runs) {
      if (counts_.front() != 1) break;  // there is nothing to refer to
      run.ratio_to_one = paired_ratio(run.tps, runs.front().tps);
      if (run.bound > 1.0) run.share_of_gain = (run.ratio_to_one->median - 1.0) / (run.bound - 1.0);
    }
    return runs;
  }

 private:
  void say(const KvFormat& format, const std::string& what) const {
    if (options_.progress) options_.progress(fmt::format("{}: {}", format.canonical(), what));
  }

  std::span<const int> ids_of(int session) const {
    const auto tokens = static_cast<std::size_t>(tokens_of(options_));
    return ids_.subspan(static_cast<std::size_t>(session) * tokens, tokens);
  }

  void open(const KvFormat& format) {
    SessionOptions session;
    session.context = tokens_of(options_);
    session.prefill_chunk = std::min(options_.prefill_chunk, session.context);
    session.state = options_.state;
    for (int i = 0; i < counts_.back(); ++i) {
      say(format, fmt::format("session {} of {} to depth {}", i + 1, counts_.back(), options_.depth));
      sessions_.push_back(engine_.open(format, session));
      sessions_.back()->prefill(ids_of(i).first(static_cast<std::size_t>(options_.depth)));
      at_depth_.push_back(sessions_.back()->snapshot());
    }
  }

  /// Seconds of all steps of the first `count` sessions, from their depth on.
  double time(int count) {
    std::vector<Work> work;
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      sessions_[at]->restore(*at_depth_[at]);
      work.push_back({sessions_[at].get(), {}});
    }
    const Stopwatch watch;
    for (int at = options_.depth; at < options_.depth + options_.steps; ++at) {
      for (int i = 0; i < count; ++i)
        work[static_cast<std::size_t>(i)].ids = ids_of(i).subspan(static_cast<std::size_t>(at), 1);
      engine_.step(work);
      for (const Work& one : work)
        if (one.error) throw *one.error;
    }
    return watch.seconds();
  }

  const Engine& engine_;
  std::span<const int> ids_;
  const SessionsOptions& options_;
  std::vector<int> counts_;
  std::vector<std::unique_ptr<Session>> sessions_;
  std::vector<std::unique_ptr<Snapshot>> at_depth_;
};

}  // namespace

int ids_needed(const SessionsOptions& options) {
  const std::vector<int> counts = counts_of(options);
  const std::int64_t needed = std::int64_t{counts.back()} * tokens_of(options);
  require(needed <= 1 << 24,
          fmt::format("{} ids would be needed, at most {} can be: ask for fewer sessions or tokens", needed, 1 << 24));
  return static_cast<int>(needed);
}

std::vector<MemoryPlan> plan_sessions(const ModelConfig& config, std::uint64_t weight_bytes,
                                      const DeviceOptions& device, const SessionsOptions& options) {
  const int context = tokens_of(options);
  PlanRequest request{device, {context, std::min(options.prefill_chunk, context), options.state}};
  request.snapshots = 1;
  const int most = counts_of(options).back();
  std::vector<MemoryPlan> plans;
  for (const KvFormat& format : options.formats) {
    request.other_sessions = 0;
    const MemoryPlan one = plan_memory(config, weight_bytes, format, request);
    const std::uint64_t logits = static_cast<std::uint64_t>(config.vocab_size) * sizeof(float);
    request.other_sessions =
        static_cast<std::uint64_t>(most - 1) * (one.kv + one.recurrent + one.convolution + one.snapshots + logits);
    plans.push_back(plan_memory(config, weight_bytes, format, request));
  }
  return plans;
}

SessionsReport run_sessions(const Engine& engine, std::span<const int> ids, const SessionsOptions& options) {
  Company company(engine, ids, options);
  SessionsReport report;
  static_cast<Measured&>(report) = measured_on(engine, options.model);
  report.memory = 0;  // the file has no room for it
  report.state = options.state;
  report.prefill_chunk = options.prefill_chunk;
  report.depth = options.depth;
  report.steps = options.steps;
  report.ids = options.ids;
  for (const KvFormat& format : options.formats) {
    const std::vector<SessionsRun> runs = company.run(format);
    report.runs.insert(report.runs.end(), runs.begin(), runs.end());
  }
  return report;
}

std::string to_json(const SessionsReport& report) {
  Json json = header_json("sessions", report,
                          {{"precision", name(report.device.precision)},
                           {"state", name(report.state)},
                           {"prefill_chunk", report.prefill_chunk},
                           {"ids", report.ids},
                           {"depth", report.depth},
                           {"steps", report.steps}});
  json["runs"] = JsonWriter::json_of(report.runs);
  return file_text(json, 2);
}

std::string to_table(const SessionsReport& report) {
  std::string out = heading(report, report.state, report.prefill_chunk, report.ids);
  const auto range = [](const Spread& spread) {
    return fmt::format("{:.2f} ({:.2f} - {:.2f})", spread.median, spread.min, spread.max);
  };
  const auto tokens = [](const Spread& spread) {
    return fmt::format("{} ({} - {})", rounded(spread.median), rounded(spread.min), rounded(spread.max));
  };
  for (std::size_t first = 0, last = 0; first < report.runs.size(); first = last) {
    const std::string& format = report.runs[first].format;
    out += fmt::format("\n{}\n{} tokens each, then {} step{}, {} round{}: median (min - max)\n", format, report.depth,
                       report.steps, report.steps == 1 ? "" : "s", report.runs[first].tps.size(),
                       report.runs[first].tps.size() == 1 ? "" : "s");
    TextTable table({"sessions", "tokens/s, all", "of one session's", "bytes allow", "share of the gain"});
    for (; last < report.runs.size() && report.runs[last].format == format; ++last) {
      const SessionsRun& run = report.runs[last];
      std::vector<std::string> row{std::to_string(run.sessions), tokens(spread_of(run.tps))};
      row.push_back(run.ratio_to_one ? range(*run.ratio_to_one) : "-");
      row.push_back(fmt::format("{:.2f}", run.bound));
      row.push_back(run.share_of_gain ? fmt::format("{:.0f}%", 100 * *run.share_of_gain) : "-");
      table.add(std::move(row));
    }
    out += table.text("  ");
  }
  return out;
}

}  // namespace tqkv::measure
