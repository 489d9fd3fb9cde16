// Which jobs begin, and what they are promised.
#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include "server/schedule/parts.h"

namespace tqkv::server {

std::uint64_t request_bytes(const ModelConfig& config, const DeviceOptions& device, StateType state,
                            const KvFormat& format, const RequestSize& size) {
  const CacheBytes bytes = cache::cache_bytes(config, cache::as_stored(format, device.precision), size.tokens, state,
                                              device.precision, kind_of(device.device).allocation);
  const std::uint64_t row = (sizeof(float) + size.sampling) * static_cast<std::uint64_t>(config.vocab_size);
  return static_cast<std::uint64_t>(size.choices) * (bytes.allocated() + row) + (size.kept ? bytes.state() : 0);
}

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
    need = bytes_of(*job);
    while (promised + tree.bytes() + need > limits.memory)
      if (!tree.drop_one()) {
        // A state that this job would continue from may be what is in its way.
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
  if (!keeps()) return;
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
  if (keeps()) run.passing = run.choices.front().session->cache().bytes.state();
  promise(promised + need);
  run.job->listener->started(run.reused, match.parted_at, run.lease.exact());
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

}  // namespace tqkv::server
