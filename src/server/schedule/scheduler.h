// Scheduler: which sessions take part in the next step. It has no thread, no socket and no clock of its own.
//
// Requests are admitted in the order in which they came, as memory for their whole length comes free: what is promised
// to one is nobody else's, so that none that runs has to end for another. One whose long beginning another is reading
// waits for it and continues from there; others may pass it. Prompts are read piece by piece, in turns; everyone who
// decodes takes part in every step. While someone decodes, a piece is followed by steps without one.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "server/prefix/prefix_tree.h"
#include "server/schedule/job.h"
#include "tqkv/engine.h"
#include "tqkv/tokenizer.h"

namespace tqkv::server {

struct SchedulerLimits {
  int parallel = 8;        ///< requests under way; each choice is one
  int context = 0;         ///< most tokens of a request, its answer included
  int pass_tokens = 2048;  ///< of prompts in one pass
  StateType state = StateType::f32;
  int queue = 256;                 ///< requests that wait, apart from those that a free place waits for
  std::uint64_t memory = 0;        ///< bytes of sessions and kept states together
  std::uint64_t prefix_cache = 0;  ///< of them, for kept states
  double prefill_share = 0.5;      ///< of the time that pieces of prompts take while others decode
};

/// What is under way, for metrics and the memory plan.
struct SchedulerState {
  int queued = 0, reading = 0, decoding = 0, paused = 0;
  std::uint64_t promised = 0;     ///< bytes, to requests under way
  std::uint64_t kept = 0;         ///< bytes of kept states
  std::uint64_t kept_states = 0;  ///< of them, recurrent states
  int states = 0;
  std::uint64_t prompt_tokens = 0, reused_tokens = 0, generated_tokens = 0;  ///< so far
  std::uint64_t steps = 0, finished = 0, cancelled = 0, failed = 0;
};

/// What a request takes room for.
struct RequestSize {
  int tokens = 0;  ///< of the prompt and the answer
  int choices = 1;
  std::uint64_t sampling = most_sampling_bytes;  ///< sampling_bytes()
  bool kept = true;                              ///< states of its prompt go into the tree
};
/// Bytes that a request is promised: of each choice a session and what samples from it, and a state on its way into the
/// tree. `format` is as asked.
std::uint64_t request_bytes(const ModelConfig& config, const DeviceOptions& device, StateType state,
                            const KvFormat& format, const RequestSize& size);

class Scheduler {
 public:
  using Seconds = std::function<double()>;  ///< a clock that only goes forward

  /// `engine` and `tokenizer` outlive it.
  Scheduler(const Engine& engine, const Tokenizer& tokenizer, const SchedulerLimits& limits, Seconds now);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Why a job could never run; empty where it could. Can be called by any thread.
  std::string problem_of(const Job& job) const;
  /// Whether so many more jobs may wait, or have a free place. Can be called by any thread.
  bool takes(int jobs) const;
  /// Jobs without a problem, all of them or none: false when the queue is full. Can be called by any thread.
  bool submit(const std::vector<std::shared_ptr<Job>>& jobs);
  /// One step over everything that can continue, after what was cancelled has ended and what waits was admitted. False
  /// when there is nothing to do until something is submitted, cancelled or read.
  bool turn();
  SchedulerState state() const;  ///< can be called by any thread
  PrefixTree& tree();            ///< of the thread of turn()

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace tqkv::server
