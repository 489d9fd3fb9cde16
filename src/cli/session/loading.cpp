#include "cli/session/loading.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/memory_info.h"
#include "base/stopwatch.h"
#include "cache/layers_text.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "tqkv/error.h"
#include "tqkv/saved_session.h"

namespace tqkv::cli {

namespace {

void tell_warnings(const Tokenizer& tokenizer) {
  for (const auto& warning : tokenizer.warnings()) note("warning: " + warning);
}

}  // namespace

Tokenizer load_tokenizer(const Checkpoint& checkpoint) {
  Tokenizer tokenizer = open_tokenizer(checkpoint);
  tell_warnings(tokenizer);
  return tokenizer;
}

const Tokenizer& load_tokenizer(const Model& model) {
  tell_warnings(model.tokenizer());
  return model.tokenizer();
}

int context_for(const ModelOptions& options, const ModelConfig& config, int prompt, int generated) {
  const int native = config.max_position_embeddings;
  const int limit = options.context > 0 ? options.context : native;
  if (prompt > limit)
    throw Error(ErrorKind::input,
                fmt::format("prompt: {} tokens, but the {} is {}: shorten it{}", prompt,
                            options.context > 0 ? "context asked for with --context" : "model's context", limit,
                            options.context > 0 ? " or give a larger --context" : ""));
  if (options.context > 0) return options.context;
  const std::int64_t needed = std::int64_t{prompt} + std::max(generated - 1, 0);
  return static_cast<int>(std::min<std::int64_t>(needed, native));
}

Announcement admit(const MemoryPlan& plan, const ModelOptions& options, const std::filesystem::path& directory) {
  if (plan.verdict != Verdict::fits) print_error(describe(plan));
  if (plan.verdict == Verdict::weights_spill) note(warning(plan));
  if (plan.verdict == Verdict::refused) {
    if (!options.force) require_fit(plan);
    note("the memory plan does not fit; going on because of --force");
  }
  const std::string others = describe_others(running_processes(), plan, directory, total_memory());
  if (!others.empty()) note(others);
  return {options.model, directory, plan.weights, plan.anonymous()};
}

void note_device(const Engine& engine, Precision asked) {
  if (const Precision runs = engine.device().precision; runs != asked)
    note(fmt::format("{} computes in {} here, whatever --precision says", engine.device().device.name, name(runs)));
  if (const std::string warning = engine.device().warning; !warning.empty()) note(warning);
}

DeviceOptions shown_device(const ModelOptions& options) {
  DeviceOptions device = options.device();
  device.progress = [](int done, int total) { show_progress("layer", done, total); };
  return device;
}

Loaded load(Model& model, const ModelOptions& options, const KvFormat& format, int context, const Work& work,
            const SavedSession* saved) {
  Loaded loaded;
  SessionOptions session = options.session();
  session.context = context;
  session.prefill_chunk =
      std::min(session.prefill_chunk, std::max(work.prompt, 1));  // a short prompt needs no room for a long chunk
  PlanRequest request{options.device(), session};
  request.tokenizer = work.tokenizer ? work.tokenizer->size() : 0;
  request.every_row = work.every_row;
  loaded.plan = model.plan(format, request);
  loaded.announcement = admit(loaded.plan, options, model.checkpoint().directory());
  const Engine& engine = model.load(shown_device(options));
  const Stopwatch watch;
  loaded.session = saved ? engine.restore(*saved, session) : engine.open(format, session);
  note_device(engine, options.device().precision);
  loaded.restore_s = saved ? watch.seconds() : 0;
  return loaded;
}

std::string describe_cache(const CacheReport& cache) {
  return cache.format.canonical() + ": " + cache::layers_text(cache.layers);
}

std::string describe_plain(const CacheReport& cache) {
  const std::string unused = cache::unused_mean(cache.format, cache.tokens);
  return unused.empty() ? "" : "; " + unused;
}

void show_progress(std::string_view what, int done, int total) {
  if (done < total)
    show_status(fmt::format("{} {}/{}", what, done, total));
  else
    clear_status();
}

void show_prompt(int done, int total) {
  constexpr int shown_from = 256;  // tokens: fewer are read at once
  if (total <= shown_from) return;
  show_progress("prefill", done, total);
  set_stop_notice(done < total && error_is_terminal() ? "\nstopping after this part of the prompt\n" : nullptr);
}

}  // namespace tqkv::cli
