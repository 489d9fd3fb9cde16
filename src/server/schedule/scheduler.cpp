#include "server/schedule/scheduler.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "server/schedule/parts.h"

namespace tqkv::server {

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
  const std::uint64_t need = parts.bytes_of(job);
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
  Step step = parts.gather();
  parts.count([&](SchedulerState& all) {
    all.reading = step.reading;
    all.decoding = static_cast<int>(step.decoding);
    all.paused = step.paused;
  });
  const bool stepped = !step.works.empty();
  if (stepped) {
    parts.run(step);
    parts.take(step);
  }
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
