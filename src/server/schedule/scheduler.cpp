#include "server/schedule/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "cache/accounting.h"
#include "runtime/devices.h"
#include "tqkv/generation.h"

namespace tqkv::server {
namespace {

/// Natural logarithms of the probabilities of `id` and the most likely ids.
TokenChoice choice_of(std::span<const float> logits, int id, int top) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - static_cast<double>(largest));
  const double all = static_cast<double>(largest) + std::log(sum);
  const auto logprob = [&](int of) { return static_cast<double>(logits[static_cast<std::size_t>(of)]) - all; };
  TokenChoice chosen{id, logprob(id), {}};
  std::vector<int> best(static_cast<std::size_t>(std::min<std::ptrdiff_t>(top, std::ssize(logits))));
  std::vector<int> ids(logits.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>(i);
  std::partial_sort_copy(ids.begin(), ids.end(), best.begin(), best.end(), [&](int a, int b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  });
  for (const int one : best) chosen.top.emplace_back(one, logprob(one));
  return chosen;
}

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

}  // namespace

std::uint64_t request_bytes(const ModelConfig& config, const DeviceOptions& device, StateType state,
                            const KvFormat& format, int tokens, int choices) {
  const CacheBytes bytes = cache::cache_bytes(config, cache::as_stored(format, device.precision), tokens, state,
                                              device.precision, kind_of(device.device).allocation);
  constexpr std::uint64_t row = 22;  // a float of logits, and what samples from it
  return static_cast<std::uint64_t>(choices) *
             (bytes.allocated() + row * static_cast<std::uint64_t>(config.vocab_size)) +
         bytes.state();
}

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

  std::uint64_t bytes_of(const KvFormat& format, int tokens, int choices) const {
    const DeviceReport device = engine.device();
    return request_bytes(engine.config(), {device.device, device.precision, {}}, limits.state, format, tokens, choices);
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
  bool step();
};

namespace {

/// Whose a part of a step is.
struct Owner {
  Run* run;
  std::size_t choice;
};

}  // namespace

void Scheduler::Parts::end_cancelled() {
  std::vector<std::shared_ptr<Job>> gone;
  {
    const std::lock_guard lock(mutex);
    const auto cancelled = [](const std::shared_ptr<Job>& job) { return job->cancelled.load(); };
    for (const auto& job : queue)
      if (cancelled(job)) gone.push_back(job);
    std::erase_if(queue, cancelled);
    state.cancelled += gone.size();
  }
  for (auto run = runs.begin(); run != runs.end();) {
    if (!run->job->cancelled) {
      ++run;
      continue;
    }
    close(*run);
    run = runs.erase(run);
    count([](SchedulerState& all) { ++all.cancelled; });
  }
}

/// Whether a job under way reads a beginning of this prompt, a piece or more beyond the `known` tokens, and will keep
/// it. A shorter one is sooner read again.
bool Scheduler::Parts::comes_soon(const Job& job, const KvFormat& stored, int known) const {
  for (const Run& run : runs) {
    if (!run.reading() || cache::as_stored(run.job->format, engine.device().precision) != stored) continue;
    const int read = run.choices.front().session->position();
    const std::vector<int>& ids = run.job->prompt;
    for (const auto& [border, kind] : run.borders)
      if (kind != Border::inside && border > read && border - known >= job.options.cuts.piece &&
          border < static_cast<int>(job.prompt.size()) &&
          std::equal(ids.begin(), ids.begin() + border, job.prompt.begin()))
        return true;
  }
  return false;
}

/// The first job of the queue, where there is room for it now. Those whose beginning another is reading let others
/// pass until it is read.
std::shared_ptr<Job> Scheduler::Parts::admissible(PrefixTree::Match& match, std::uint64_t& need) {
  std::vector<std::shared_ptr<Job>> waiting;
  {
    const std::lock_guard lock(mutex);
    waiting.assign(queue.begin(), queue.begin() + std::min<std::ptrdiff_t>(std::ssize(queue), limits.parallel));
  }
  const int under_way = choices_under_way();
  for (const std::shared_ptr<Job>& job : waiting) {
    if (under_way > 0 && under_way + job->choices > limits.parallel) return nullptr;
    const KvFormat stored = cache::as_stored(job->format, engine.device().precision);
    match = tree.find(stored, limits.state, job->prompt, job->exact);
    if (comes_soon(*job, stored, match.lease.tokens())) continue;
    need = bytes_of(job->format, total_tokens(*job), job->choices);
    while (promised + tree.bytes() + need > limits.memory)
      if (!tree.drop_one()) {
        // A state that this job would go on from may be what is in its way.
        if (!runs.empty() || match.lease.tokens() == 0) return nullptr;
        match.lease = {};
      }
    const std::lock_guard lock(mutex);
    std::erase(queue, job);
    places_taken = under_way + job->choices;
    return job;
  }
  return nullptr;
}

void Scheduler::Parts::admit() {
  for (;;) {
    PrefixTree::Match match;
    std::uint64_t need = 0;
    const std::shared_ptr<Job> job = admissible(match, need);
    if (!job) break;
    if (job->cancelled) {
      count([](SchedulerState& all) { ++all.cancelled; });
      continue;
    }
    try {
      begin(job, std::move(match), need);
    } catch (const Error& error) {
      job->listener->failed(error);
      count([](SchedulerState& all) { ++all.failed; });
    }
  }
  std::vector<std::shared_ptr<Job>> waiting;
  {
    const std::lock_guard lock(mutex);
    waiting.assign(queue.begin(), queue.end());
  }
  for (std::size_t i = 0; i < waiting.size(); ++i) waiting[i]->listener->queued(static_cast<int>(i) + 1);
}

/// A state is kept behind the system message, where the first message of two or more ends; behind the last question,
/// where the prompt for the answer begins; and inside that question, at cuts that are a piece before its end, two, four
/// and so on.
void Scheduler::Parts::mark_borders(Run& run, GenerateOptions& options) const {
  if (limits.prefix_cache == 0) return;
  const std::vector<int>& ids = run.job->prompt;
  std::vector<int> messages;  // where one begins that is not the first
  for (std::size_t i = 1; options.cuts.border && i < ids.size(); ++i)
    if (ids[i] == *options.cuts.border) messages.push_back(static_cast<int>(i));
  const int end = messages.empty() ? static_cast<int>(ids.size()) : messages.back();
  const int begin = messages.size() < 2 ? 0 : messages[messages.size() - 2];
  const std::vector<int> cuts = options.cuts.ends({}, ids);
  for (int before = options.cuts.piece; end - before > begin; before *= 2) {
    const auto cut = std::upper_bound(cuts.begin(), cuts.end(), end - before);
    if (cut != cuts.begin() && *std::prev(cut) > begin) run.borders[*std::prev(cut)] = Border::inside;
  }
  if (messages.size() >= 2) run.borders[messages.front()] = Border::system;
  if (!messages.empty()) run.borders[messages.back()] = Border::question;
  std::erase_if(run.borders, [&](const auto& one) { return one.first <= run.reused; });
  for (const auto& [at, border] : run.borders) options.kept.push_back(at - run.reused);
  options.keep = [&run](std::unique_ptr<Snapshot> one) { run.kept.push_back(std::move(one)); };
}

void Scheduler::Parts::begin(std::shared_ptr<Job> job, PrefixTree::Match match, std::uint64_t need) {
  Run& run = runs.emplace_back();
  try {
    run.job = std::move(job);
    run.lease = std::move(match.lease);
    run.reused = run.lease.tokens();
    SessionOptions options;
    options.context = total_tokens(*run.job);
    options.prefill_chunk = limits.pass_tokens;
    options.state = limits.state;
    std::unique_ptr<Session> session = tree.open(run.lease, run.job->format, options);
    open_choice(run, std::move(session), std::span(run.job->prompt).subspan(static_cast<std::size_t>(run.reused)));
  } catch (...) {
    runs.pop_back();
    throw;
  }
  run.promised = need;
  run.passing = run.choices.front().session->cache().bytes.state();
  promise(promised + need);
  run.job->listener->started(run.reused, match.parted_at, run.job->exact);
  count([&](SchedulerState& all) { all.reused_tokens += static_cast<std::uint64_t>(run.reused); });
}

void Scheduler::Parts::give_back(Run& run, std::uint64_t bytes) {
  promise(promised - bytes);
  run.promised -= bytes;
}

void Scheduler::Parts::open_choice(Run& run, std::unique_ptr<Session> session, std::span<const int> prompt) {
  const int index = static_cast<int>(run.choices.size());
  GenerateOptions options = run.job->options;
  options.sampling.seed += static_cast<std::uint64_t>(index);
  if (index == 0) mark_borders(run, options);
  Listener& listener = *run.job->listener;
  options.progress = [&listener, reused = run.reused](int done, int total) {
    listener.read(reused + done, reused + total);
  };
  Choice& choice = run.choices.emplace_back();
  choice.session = std::move(session);
  choice.generation.emplace(*choice.session, tokenizer, prompt, options,
                            [&listener, index](Part part, std::string_view text) { listener.text(index, part, text); });
}

/// The prompt is read: the other choices go on from there.
void Scheduler::Parts::branch(Run& run) {
  const Session& first = *run.choices.front().session;
  if (run.job->choices == 1) return;
  const std::unique_ptr<Snapshot> here = first.snapshot();
  SessionOptions options;
  options.context = first.context();
  options.prefill_chunk = limits.pass_tokens;
  for (int i = 1; i < run.job->choices; ++i) {
    open_choice(run, engine.fork(first, *here, options), {});
    Choice& choice = run.choices.back();
    choice.generation->accept(choice.session->logits());
  }
}

void Scheduler::Parts::accept(Run& run, std::size_t index, const Work& done) {
  Choice& choice = run.choices[index];
  Generation& generation = *choice.generation;
  if (done.error && done.error->kind() == ErrorKind::memory && tree.drop_one()) return;  // it is tried again
  const bool first = generation.ids().empty() && !generation.reading() && !done.error;
  generation.accept(done);
  const auto tell = [&](std::size_t at, std::span<const float> logits) {
    if (!run.job->top_logprobs || logits.empty() || run.choices[at].generation->ids().empty()) return;
    run.job->listener->chosen(static_cast<int>(at),
                              choice_of(logits, run.choices[at].generation->ids().back(), *run.job->top_logprobs));
  };
  if (done.error || done.want == Want::nothing) return;
  if (done.want == Want::logits) tell(index, done.logits);
  if (!first || index > 0) return;
  branch(run);
  for (std::size_t i = 1; i < run.choices.size(); ++i) tell(i, run.choices[i].session->logits());
}

void Scheduler::Parts::keep_states(Run& run) {
  for (const std::unique_ptr<Snapshot>& snapshot : std::exchange(run.kept, {}))
    tree.keep(*run.choices.front().session, *snapshot, run.borders.at(snapshot->position()), run.lease);
}

/// What a run has computed is kept where there is room, and its promise is given back.
void Scheduler::Parts::close(Run& run) {
  give_back(run, run.promised);
  Choice& first = run.choices.front();
  const bool answered = !first.generation->reading() && !first.generation->ids().empty();
  first.generation.reset();
  if (answered && !run.job->exact) tree.keep(std::move(first.session), std::move(run.lease));
}

bool Scheduler::Parts::end_finished() {
  bool any = false;
  for (auto run = runs.begin(); run != runs.end();) {
    for (std::size_t i = 0; i < run->choices.size(); ++i) {
      Choice& choice = run->choices[i];
      if (choice.told || !choice.generation->finished()) continue;
      choice.told = true;
      run->job->listener->finished(static_cast<int>(i), choice.generation->result());
    }
    if (!run->over()) {
      ++run;
      continue;
    }
    any = true;
    const std::shared_ptr<Job> job = run->job;
    close(*run);
    run = runs.erase(run);
    count([](SchedulerState& all) { ++all.finished; });
    job->listener->done();
  }
  return any;
}

bool Scheduler::Parts::step() {
  std::vector<Work> works;
  std::vector<Owner> owners;
  std::vector<Run*> reading;
  int paused = 0;
  for (Run& run : runs) {
    if (run.reading()) {
      reading.push_back(&run);
      continue;
    }
    const bool full = run.job->listener->full();
    for (std::size_t i = 0; i < run.choices.size(); ++i) {
      Choice& choice = run.choices[i];
      if (choice.generation->finished()) continue;
      if (full) {
        ++paused;
        continue;
      }
      const bool drawn_here = run.job->top_logprobs.has_value();
      works.push_back(choice.generation->work(1, drawn_here ? Want::logits : Want::id));
      owners.push_back({&run, i});
    }
  }
  const std::size_t decoding = works.size();
  bool reads = false;
  if (!reading.empty() && (decoding == 0 || now() >= next_piece)) {
    // Alone, prompts share a pass; beside others one of them has a piece.
    const int piece = reading.front()->job->options.cuts.piece;
    const auto at_once = decoding > 0 ? std::size_t{1} : reading.size();
    int room = decoding > 0 ? piece : std::max(piece, limits.pass_tokens);
    const int share = std::max(piece, room / static_cast<int>(at_once));
    for (std::size_t i = 0; i < at_once && room >= piece; ++i) {  // a piece that does not fit whole waits
      works.push_back(reading[i]->choices.front().generation->work(std::min(share, room), Want::logits));
      // The snapshots that a pass takes are the tree's until it has made states of them.
      std::span<const int>& kept = works.back().pieces.kept;
      if (!tree.reserve(static_cast<std::uint64_t>(kept.size()) * snapshot_bytes(*reading[i]))) kept = {};
      owners.push_back({reading[i], 0});
      room -= static_cast<int>(works.back().ids.size());
    }
    reads = true;
  }
  count([&](SchedulerState& all) {
    all.reading = static_cast<int>(reading.size());
    all.decoding = static_cast<int>(decoding);
    all.paused = paused;
  });
  if (works.empty()) return false;

  const double start = now();
  try {
    engine.step(works);
  } catch (const Error& error) {  // of the device or the weights: it would come again
    for (Work& work : works) work.error = error;
  }
  if (reads && decoding > 0) next_piece = now() + (now() - start) * (1 - limits.prefill_share) / limits.prefill_share;
  tree.release();
  std::vector<Run*> failed;
  for (std::size_t i = 0; i < works.size(); ++i) {
    Run& run = *owners[i].run;
    if (std::ranges::find(failed, &run) != failed.end()) continue;
    try {
      keep_states(run);
      accept(run, owners[i].choice, works[i]);
      if (!run.reading()) give_back(run, std::exchange(run.passing, 0));
      if (!works[i].error)
        count([&](SchedulerState& all) {
          (i < decoding ? all.generated_tokens : all.prompt_tokens) += works[i].ids.size();
        });
    } catch (const Error& error) {
      failed.push_back(&run);
      run.job->listener->failed(error);
    }
  }
  count([](SchedulerState& all) { ++all.steps; });
  runs.remove_if([&](Run& run) {
    if (std::ranges::find(failed, &run) == failed.end()) return false;
    give_back(run, run.promised);
    count([](SchedulerState& all) { ++all.failed; });
    return true;
  });
  // The next piece is another prompt's.
  if (reads && decoding > 0) {
    const auto read = std::ranges::find_if(runs, [&](const Run& run) { return &run == owners[decoding].run; });
    if (read != runs.end()) runs.splice(runs.end(), runs, read);
  }
  return true;
}

Scheduler::Scheduler(const Engine& engine, const Tokenizer& tokenizer, const SchedulerLimits& limits, Seconds now)
    : parts_(std::make_unique<Parts>(engine, tokenizer, limits, std::move(now))) {}
Scheduler::~Scheduler() = default;

std::string Scheduler::problem_of(const Job& job) const {
  const Parts& parts = *parts_;
  const int prompt = static_cast<int>(job.prompt.size());
  if (prompt == 0) return "the prompt has no tokens";
  if (prompt >= parts.limits.context)
    return fmt::format("a prompt of {} tokens leaves none of a context of {}", prompt, parts.limits.context);
  if (job.choices > parts.limits.parallel)
    return fmt::format("{} choices are more than the {} that run at once", job.choices, parts.limits.parallel);
  const std::uint64_t need = parts.bytes_of(job.format, parts.total_tokens(job), job.choices);
  if (need > parts.limits.memory)
    return fmt::format("{} tokens take {:.1f} MB, and requests have {:.1f} MB: ask for fewer", parts.total_tokens(job),
                       static_cast<double>(need) / 1e6, static_cast<double>(parts.limits.memory) / 1e6);
  return {};
}

bool Scheduler::takes(int jobs) const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->takes(jobs);
}

bool Scheduler::submit(const std::vector<std::shared_ptr<Job>>& jobs) {
  const std::lock_guard lock(parts_->mutex);
  if (!parts_->takes(std::ssize(jobs))) return false;
  parts_->queue.insert(parts_->queue.end(), jobs.begin(), jobs.end());
  return true;
}

bool Scheduler::turn() {
  Parts& parts = *parts_;
  parts.end_cancelled();
  parts.admit();
  const bool stepped = parts.step();
  const bool ended = parts.end_finished();
  parts.count([&](SchedulerState& all) {
    parts.places_taken = parts.choices_under_way();
    all.queued = static_cast<int>(parts.queue.size());
    all.promised = parts.promised;
    all.kept = parts.tree.bytes();
    all.kept_states = parts.tree.state_bytes();
    all.states = parts.tree.states();
    if (parts.runs.empty()) all.reading = all.decoding = all.paused = 0;
  });
  return stepped || ended;
}

SchedulerState Scheduler::state() const {
  const std::lock_guard lock(parts_->mutex);
  SchedulerState state = parts_->state;
  state.queued = static_cast<int>(parts_->queue.size());
  return state;
}

PrefixTree& Scheduler::tree() {
  return parts_->tree;
}

}  // namespace tqkv::server
