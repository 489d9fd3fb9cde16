#include "tqkv/generate.h"

#include <algorithm>
#include <chrono>

#include "base/memory_info.h"
#include "generation/fault_watch.h"
#include "tqkv/error.h"
#include "tqkv/generation.h"

namespace tqkv {
namespace {

/// What one generation after another takes of the machine.
class ProcessWatch {
 public:
  explicit ProcessWatch(const GenerateOptions& options) : notice_(options.notice), faults_(options.weights) {}

  void look() { peak_ = std::max(peak_, anonymous_memory()); }
  void begin_step() { step_ = Clock::now(); }
  void end_step() {
    const double seconds = std::chrono::duration<double>(Clock::now() - step_).count();
    look();
    if (const auto line = faults_.step(seconds); line && notice_) notice_(*line);
  }
  GenerateResult noted(GenerateResult result) const {
    result.statistics.peak_anonymous = peak_;
    result.statistics.major_faults = faults_.faults();
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const std::function<void(std::string_view line)>& notice_;
  FaultWatch faults_;
  std::uint64_t peak_ = 0;
  Clock::time_point step_;
};

}  // namespace

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::context:
      return "context";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::memory:
      return "memory";
  }
  return "stop";
}

GenerateResult generate(Session& session, const Tokenizer& tokenizer, std::span<const int> prompt,
                        const GenerateOptions& options, const TextSink& sink) {
  Generation generation(session, tokenizer, prompt, options, sink);
  ProcessWatch watch(options);
  PrefillOptions prefill;
  prefill.progress = [&](int) {
    watch.look();
    return generation.read_part();
  };
  prefill.stop = options.cancel;
  const std::span<const int> ids = generation.all();
  prefill.pieces = generation.pieces();
  const std::span<const float> logits = prompt.empty() ? session.logits() : session.prefill(ids, prefill);
  watch.look();
  if (logits.empty())
    generation.cancel();
  else
    generation.accept(logits);
  if (generation.finished()) return watch.noted(generation.result());
  const int last = generation.next().front();
  watch.begin_step();
  try {
    session.run(last, generation.sampler(), generation.left(), [&](int id) {
      watch.end_step();
      generation.accept(id);
      if (generation.finished()) return false;
      generation.next();
      watch.begin_step();
      return true;
    });
  } catch (const Error& error) {  // memory may refuse a step
    generation.refuse(error);
  }
  return watch.noted(generation.result());
}

}  // namespace tqkv
