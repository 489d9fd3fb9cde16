#include "tqkv/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "base/memory_info.h"
#include "generation/fault_watch.h"
#include "generation/think_splitter.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

std::optional<double> rate(int count, double time) {
  if (count <= 0 || time <= 0.0) return std::nullopt;
  return count / time;
}

void check_prompt(const Session& session, std::span<const int> prompt) {
  if (prompt.empty() && session.logits().empty())
    throw Error(ErrorKind::input, "prompt: has no tokens: give some text");
  const int room = session.context() - session.position();
  if (prompt.size() > static_cast<std::size_t>(room))
    throw Error(ErrorKind::input,
                fmt::format("prompt: {} tokens, but the context has room for {}: shorten it or give a larger context",
                            prompt.size(), room));
}

std::vector<bool> ids_with_token(const Tokenizer& tokenizer, std::size_t vocabulary) {
  std::vector<bool> allowed(vocabulary);
  for (std::size_t id = 0; id < vocabulary; ++id) allowed[id] = tokenizer.has_token(static_cast<int>(id));
  return allowed;
}

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
  check(options.sampling);
  check_prompt(session, prompt);
  const auto cancelled = [&] { return options.cancel != nullptr && options.cancel->load(); };

  GenerateResult result;
  GenerateStatistics& statistics = result.statistics;
  statistics.prompt_tokens = static_cast<int>(prompt.size());
  const auto sample_memory = [&] {
    statistics.peak_anonymous = std::max(statistics.peak_anonymous, anonymous_memory());
  };

  FaultWatch faults(options.weights);
  ThinkSplitter splitter(tokenizer, options, sink);
  const Clock::time_point start = Clock::now();
  int done = 0;
  PrefillOptions prefill;
  prefill.progress = [&](int count) {
    done = count;
    sample_memory();
    if (options.progress) options.progress(count, statistics.prompt_tokens);
    return !cancelled();
  };
  std::span<const float> logits = prompt.empty() ? session.logits() : session.prefill(prompt, prefill);
  if (logits.empty()) {
    statistics.prompt_tokens = done;
    statistics.prompt_tps = rate(done, seconds(Clock::now() - start));
    result.reason = FinishReason::cancelled;
  } else {
    sample_memory();
    statistics.prompt_tps = rate(statistics.prompt_tokens, seconds(Clock::now() - start));
    Sampler sampler(options.sampling, ids_with_token(tokenizer, logits.size()));
    sampler.prompt(session.ids());
    const int limit = options.max_tokens > 0 ? options.max_tokens : std::numeric_limits<int>::max();
    Clock::duration decoding{};
    int steps = 0;
    while (true) {
      const int id = sampler.next(logits, static_cast<std::uint64_t>(session.position()));
      if (result.ids.empty()) statistics.time_to_first_token = seconds(Clock::now() - start);
      result.ids.push_back(id);
      if (std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end()) {
        result.reason = FinishReason::stop;
        break;
      }
      splitter.push(id);
      if (!splitter.stop_string().empty()) {
        result.reason = FinishReason::stop;
        result.stop_string = splitter.stop_string();
        break;
      }
      if (static_cast<int>(result.ids.size()) >= limit) {
        result.reason = FinishReason::length;
        break;
      }
      if (session.position() >= session.context()) {
        result.reason = FinishReason::context;
        break;
      }
      if (cancelled()) {
        result.reason = FinishReason::cancelled;
        break;
      }
      const Clock::time_point before = Clock::now();
      try {
        logits = session.decode(id);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::memory) throw;
        result.reason = FinishReason::memory;
        result.stopped_by = error.what();
        break;
      }
      const Clock::duration step = Clock::now() - before;
      decoding += step;
      ++steps;
      sample_memory();
      if (const auto line = faults.step(seconds(step)); line && options.notice) options.notice(*line);
    }
    splitter.finish();
    statistics.generation_tps = rate(steps, seconds(decoding));
  }
  statistics.generated_tokens = static_cast<int>(result.ids.size());
  statistics.major_faults = faults.faults();
  statistics.wall = seconds(Clock::now() - start);
  result.thinking = splitter.text(Part::thinking);
  result.answer = splitter.text(Part::answer);
  result.ended_thinking = splitter.thinking();
  result.cache = session.cache();
  return result;
}

}  // namespace tqkv
