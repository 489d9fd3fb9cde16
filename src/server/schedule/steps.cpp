// A step over everyone who takes part, and what becomes of it.
#include <algorithm>
#include <cmath>
#include <utility>

#include "server/schedule/parts.h"

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

}  // namespace

/// The prompt is read: the other choices continue from there.
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

Step Scheduler::Parts::gather() {
  Step step;
  std::vector<Run*> reading;
  for (Run& run : runs) {
    if (run.reading()) {
      reading.push_back(&run);
      continue;
    }
    const bool full = run.job->listener->full();
    for (std::size_t i = 0; i < run.choices.size(); ++i) {
      Generation& generation = *run.choices[i].generation;
      if (generation.finished()) continue;
      if (full)
        ++step.paused;
      else
        step.add(run, i, generation.work(1, run.job->top_logprobs ? Want::logits : Want::id));
    }
  }
  step.decoding = step.works.size();
  step.reading = static_cast<int>(reading.size());
  if (!reading.empty() && (step.decoding == 0 || now() >= next_piece)) add_prompts(step, reading);
  return step;
}

/// Alone, prompts share a pass; with answers in it, one of them has a piece.
void Scheduler::Parts::add_prompts(Step& step, std::span<Run* const> reading) {
  const int piece = reading.front()->job->options.cuts.piece;
  const std::size_t at_once = step.decoding > 0 ? 1 : reading.size();
  int room = step.decoding > 0 ? piece : std::max(piece, limits.pass_tokens);
  const int share = std::max(piece, room / static_cast<int>(at_once));
  for (std::size_t i = 0; i < at_once && room >= piece; ++i) {  // a piece that does not fit whole waits
    Work work = reading[i]->choices.front().generation->work(std::min(share, room), Want::logits);
    room -= static_cast<int>(work.ids.size());
    // The snapshots that a pass takes are the tree's until it has made states of them.
    if (!tree.reserve(static_cast<std::uint64_t>(work.pieces.kept.size()) * snapshot_bytes(*reading[i])))
      work.pieces.kept = {};
    step.add(*reading[i], 0, std::move(work));
  }
}

void Scheduler::Parts::run(Step& step) {
  const double start = now();
  try {
    engine.step(step.works);
  } catch (const Error& error) {  // of the device or the weights: it would come again
    for (Work& work : step.works) work.error = error;
  }
  tree.release();
  if (step.mixed()) next_piece = now() + (now() - start) * (1 - limits.prefill_share) / limits.prefill_share;
  count([](SchedulerState& all) { ++all.steps; });
}

void Scheduler::Parts::take(Step& step) {
  std::vector<Run*> failed;
  for (std::size_t i = 0; i < step.works.size(); ++i) {
    Run& run = *step.owners[i].run;
    const Work& done = step.works[i];
    if (std::ranges::find(failed, &run) != failed.end()) continue;
    try {
      keep_states(run);
      accept(run, step.owners[i].choice, done);
      if (!run.reading()) give_back(run, std::exchange(run.passing, 0));
      if (!done.error)
        count([&](SchedulerState& all) {
          (i < step.decoding ? all.generated_tokens : all.prompt_tokens) += done.ids.size();
        });
    } catch (const Error& error) {
      failed.push_back(&run);
      run.job->listener->failed(error);
    }
  }
  runs.remove_if([&](Run& run) {
    if (std::ranges::find(failed, &run) == failed.end()) return false;
    give_back(run, run.promised);
    count([](SchedulerState& all) { ++all.failed; });
    return true;
  });
  if (!step.mixed()) return;
  // The next piece is another prompt's.
  const auto read = std::ranges::find_if(runs, [&](const Run& run) { return &run == step.owners.back().run; });
  if (read != runs.end()) runs.splice(runs.end(), runs, read);
}

}  // namespace tqkv::server
