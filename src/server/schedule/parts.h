// What a scheduler has: jobs under way, those that wait, and the steps in between. admission.cpp begins jobs, steps.cpp
// computes and ends them.
#pragma once
#include <algorithm>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "cache/accounting.h"
#include "runtime/devices.h"
#include "server/schedule/scheduler.h"
#include "tqkv/generation.h"

namespace tqkv::server {

/// A choice of a job: a session and the answer that it gives.
struct Choice {
  std::unique_ptr<Session> session;
  std::optional<Generation> generation;
  bool told = false;  // that it has finished
};

/// A job under way.
struct Run {
  std::shared_ptr<Job> job;
  PrefixTree::Lease lease;
  std::uint64_t promised = 0;
  std::uint64_t passing = 0;  // of it: for a state on its way into the tree, until the prompt is read
  int reused = 0;
  std::map<int, Border> borders;                // of the prompt, behind which a state is kept
  std::vector<std::unique_ptr<Snapshot>> kept;  // of the last step
  std::vector<Choice> choices;                  // the first alone until the prompt is read

  bool reading() const { return choices.front().generation->reading(); }
  bool over() const {
    return choices.size() == static_cast<std::size_t>(job->choices) &&
           std::ranges::all_of(choices, [](const Choice& one) { return one.told; });
  }
};

/// The parts of a step, and whose they are. Those of who decodes come first.
struct Step {
  struct Owner {
    Run* run;
    std::size_t choice;
  };
  std::vector<Work> works;
  std::vector<Owner> owners;
  std::size_t decoding = 0;  // parts
  int reading = 0, paused = 0;

  void add(Run& run, std::size_t choice, Work work) {
    works.push_back(std::move(work));
    owners.push_back({&run, choice});
  }
  bool reads() const { return works.size() > decoding; }
  bool mixed() const { return decoding > 0 && reads(); }
};

struct Scheduler::Parts {
  const Engine& engine;
  const Tokenizer& tokenizer;
  const SchedulerLimits limits;
  const Seconds now;
  PrefixTree tree;
  std::list<Run> runs;
  double next_piece = 0;  // when the next piece of a prompt may be read, while someone decodes
  std::uint64_t promised = 0;

  mutable std::mutex mutex;  // of what follows
  std::deque<std::shared_ptr<Job>> queue;
  int places_taken = 0;  // by choices under way
  SchedulerState state;

  Parts(const Engine& its_engine, const Tokenizer& its_tokenizer, const SchedulerLimits& its_limits, Seconds clock)
      : engine(its_engine),
        tokenizer(its_tokenizer),
        limits(its_limits),
        now(std::move(clock)),
        tree(its_engine, its_limits.prefix_cache) {}

  int total_tokens(const Job& job) const {
    const int prompt = static_cast<int>(job.prompt.size());
    return job.options.max_tokens > 0 ? std::min(limits.context, prompt + job.options.max_tokens) : limits.context;
  }

  /// Whether states are kept for later requests.
  bool keeps() const { return limits.prefix_cache > 0; }

  std::uint64_t bytes_of(const Job& job) const {
    const DeviceReport device = engine.device();
    return request_bytes(engine.config(), {device.device, device.precision, {}}, limits.state, job.format,
                         {total_tokens(job), job.choices, sampling_bytes(job.options.sampling), keeps()});
  }

  std::uint64_t snapshot_bytes(const Run& run) const {
    const DeviceReport device = engine.device();
    return cache::snapshot_bytes(engine.config(), cache::as_stored(run.job->format, device.precision),
                                 total_tokens(*run.job), limits.state, device.precision,
                                 kind_of(device.device).allocation);
  }

  /// What is promised is not the tree's.
  void promise(std::uint64_t bytes) {
    promised = bytes;
    tree.limit(limits.memory - std::min(limits.memory, promised));
  }

  template <class Change>
  void count(const Change& change) {
    const std::lock_guard lock(mutex);
    change(state);
  }

  int choices_under_way() const {
    int all = 0;
    for (const Run& run : runs) all += run.job->choices;
    return all;
  }

  /// With the mutex held.
  bool takes(std::ptrdiff_t jobs) const {
    const int free = std::max(0, limits.parallel - places_taken);
    return std::ssize(queue) + jobs <= std::ptrdiff_t{limits.queue} + free;
  }

  void end_cancelled();
  void admit();
  bool comes_soon(const Job& job, const KvFormat& stored, int known) const;
  std::shared_ptr<Job> admissible(PrefixTree::Match& match, std::uint64_t& need);
  void begin(std::shared_ptr<Job> job, PrefixTree::Match match, std::uint64_t need);
  void give_back(Run& run, std::uint64_t bytes);
  void open_choice(Run& run, std::unique_ptr<Session> session, std::span<const int> prompt);
  void mark_borders(Run& run, GenerateOptions& options) const;
  void branch(Run& run);
  void accept(Run& run, std::size_t choice, const Work& done);
  void keep_states(Run& run);
  void close(Run& run);
  bool end_finished();
  Step gather();
  void add_prompts(Step& step, std::span<Run* const> reading);
  void run(Step& step);
  void take(Step& step);
};

}  // namespace tqkv::server
