#include "tqkv/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cli/commands/commands.h"
#include "cli/commands/generate_report.h"
#include "cli/options/number_checks.h"
#include "cli/options/options.h"
#include "cli/options/sampling_options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/session/prompt.h"
#include "cli/session/saved.h"
#include "cli/session/startup.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "cli/terminal/stream.h"
#include "tqkv/continuation.h"
#include "tqkv/error.h"
#include "tqkv/model.h"

namespace tqkv::cli {
namespace {

struct GenerateArguments {
  ModelOptions model;
  CacheOptions cache;
  PromptOptions prompt;
  SamplingOptions sampling;
  int max_tokens = default_max_tokens;
  bool stats = false, json = false, print_prompt = false;
  std::string session, save_session;  // paths; empty: not given
  const CLI::App* command = nullptr;
};

Prompt prompt_of(const GenerateArguments& options, const Model& model, const Continuation& place) {
  int replaced = 0;
  Prompt prompt = make_prompt(options.prompt, model, place, replaced);
  warn_about(replaced);
  return prompt;
}

void print_prompt(const GenerateArguments& options, const std::filesystem::path& directory,
                  const std::optional<SavedSession>& saved) {
  const Model model(Checkpoint::open_without_weights(directory));
  load_tokenizer(model);
  print(text_of(prompt_of(options, model, continuation_of(saved, model)).pieces));
}

void say_how_it_ended(const GenerateResult& result, const GenerateArguments& options) {
  if (result.ended_thinking) note("the answer ended inside thinking: give more --max-tokens, or --no-think");
  if (result.reason == FinishReason::length && !result.ended_thinking)
    note(
        fmt::format("stopped after {} token{} (--max-tokens)", options.max_tokens, options.max_tokens == 1 ? "" : "s"));
  if (result.reason == FinishReason::context)
    note(fmt::format("stopped: the context of {} tokens is full (--context)", result.cache.tokens));
  if (result.reason == FinishReason::memory) note(result.stopped_by);
  if (result.reason == FinishReason::cancelled) {
    if (error_is_terminal()) print_error("\n");  // after ^C or the progress
    note("interrupted");
  }
}

/// Saves unless the prompt was not read to its end: nothing could go on from there. The last id was sampled, not fed.
void save_result(const GenerateArguments& options, const Session& session, const GenerateResult& result, bool raw) {
  if (options.save_session.empty()) return;
  if (result.ids.empty()) return note(fmt::format("{}: not saved", options.save_session));
  save(session, options.save_session, {raw ? NextText::raw : NextText::conversation, {result.ids.back()}});
}

void generate(GenerateArguments options) {
  check(options.prompt, !options.session.empty());
  check(combine(Sampling{}, options.sampling));
  std::optional<SavedSession> saved = open_saved(options.session);
  const KvFormat format =
      saved ? adopt(*saved, *options.command, options.cache, options.model) : options.cache.format();
  const std::filesystem::path directory =
      find_model(options.model.model, options.print_prompt ? Needs::no_weights : Needs::everything);
  if (options.print_prompt) {
    print_prompt(options, directory, saved);
    return;
  }

  Model model(Checkpoint::open(directory));
  const Tokenizer& tokenizer = load_tokenizer(model);
  const Sampling sampling = combine(model.defaults(), options.sampling);  // before anything large is read
  const Continuation place = continuation_of(saved, model);
  const Prompt prompt = prompt_of(options, model, place);
  const bool raw = prompt.raw;
  const std::vector<int> ids = place.ids(encode(tokenizer, prompt.pieces));
  const int restored = place.tokens();
  const int tokens = static_cast<int>(ids.size());
  const int context = context_for(options.model, model.config(), restored + tokens, options.max_tokens);
  if (!options.save_session.empty())
    require_savable(options.save_session, model.config(), options.model, format,
                    std::min(context, restored + tokens + options.max_tokens - 1));

  const std::uint64_t weights = model.checkpoint().tensor_bytes();
  const Loaded loaded = load(model, options.model, format, context, {tokens, &tokenizer}, saved ? &*saved : nullptr);
  if (saved) tell_restored(*saved, model.engine(), loaded.restore_s);
  saved.reset();  // its pages are the session's now
  note(describe_cache(loaded.session->cache()));

  const Interrupt interrupt;
  GenerateOptions generation = model.generate_options(sampling, raw);
  generation.stop_strings = options.sampling.stop;
  generation.max_tokens = options.max_tokens;
  generation.opens_thinking = prompt.opens_thinking;
  generation.cancel = interrupt.flag();
  generation.progress = show_prompt;
  generation.notice = [](std::string_view line) { note(std::string(line)); };
  Stream stream;
  TextSink sink;
  DeferredFailure output(!options.save_session.empty());
  if (!options.json) sink = [&](Part part, std::string_view text) { output.guard([&] { stream(part, text); }); };
  show_prompt(0, tokens);
  const double startup = seconds_since_start();
  const GenerateResult result = tqkv::generate(*loaded.session, tokenizer, ids, generation, sink);
  if (!options.json) output.guard([&] { stream.finish(); });

  const GenerateReport report{options.model.model,
                              model.engine().device(),
                              generation.sampling,
                              weights,
                              loaded.plan.anonymous(),
                              context,
                              restored,
                              startup,
                              &result};
  if (options.json) output.guard([&] { print(report_json(report, raw ? std::nullopt : std::optional(prompt.tools))); });
  say_how_it_ended(result, options);
  const bool cancelled = result.reason == FinishReason::cancelled;
  if (options.stats) print_error(describe(loaded.plan));
  if (options.stats || cancelled) print_error(statistics_text(report));
  save_result(options, *loaded.session, result, raw);
  output.rethrow();
  if (cancelled) throw CLI::RuntimeError(interrupted_exit_code);
  if (result.reason == FinishReason::memory) throw CLI::RuntimeError(1);
}

}  // namespace

void add_generate(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<GenerateArguments>();
  CLI::App* command = program.add_subcommand("generate", "Answer a prompt");
  add_model_options(*command, options->model);
  add_prompt_options(*command, options->prompt);
  command->add_option("--max-tokens", options->max_tokens, "Maximum number of tokens to generate, including thinking")
      ->transform(whole_number(1, max_count))
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--stats", options->stats, "Print speed, cache bytes and the memory plan to standard error");
  command->add_flag("--json", options->json, "Print one JSON object instead of the answer");
  command
      ->add_flag("--print-prompt", options->print_prompt, "Print the prompt with its markup and stop; needs no weights")
      ->excludes("--stats")
      ->excludes("--json");
  command->add_option("--session", options->session, "Resume a saved session; PROMPT continues it")
      ->type_name("FILE")
      ->group(session_group);
  command->add_option("--save-session", options->save_session, "Save the session, including the answer, for --session")
      ->type_name("FILE")
      ->group(session_group);
  options->command = command;
  add_sampling_options(*command, options->sampling);
  add_cache_options(*command, options->cache, false);
  command->footer(
      "The answer goes to standard output. Thinking and everything else goes to standard error. Sampling starts from\n"
      "the model's generation_config.json; options override it. Put -- before a PROMPT that begins with -.\n\n"
      "Text from a pipe or a redirected file goes before PROMPT, followed by a blank line, unless --file or "
      "--messages\n"
      "is given. A pipe that stays silent for 5 seconds is ignored; --file - waits for its end. In a loop that reads\n"
      "standard input itself, add < /dev/null.\n\n"
      "--session resumes where you left off; nothing is recomputed. PROMPT is\n"
      "  - the question, after a text that `prefill` stored\n"
      "  - the next turn, in a conversation\n"
      "  - the next text, in a raw session or with --raw; it may be left out\n"
      "The session decides cache format, precision and type of the state.\n\n"
      "Examples:\n"
      "  tqkv generate pocket 'Hi, what can you help me with?' --backend baseline\n"
      "  tqkv generate pocket --file notes.txt 'What does it say?' --backend turboquant --kv-bits 3.5 --stats\n"
      "  cat notes.txt | tqkv generate pocket 'What does it say?'\n"
      "  git diff | tqkv generate pocket - --system 'Write a commit message.' --max-tokens 200\n"
      "  tqkv generate pocket 'Once upon' --raw --temperature 0.8 --seed 7 --json\n"
      "  tqkv generate pocket 'Hi' --save-session chat.session && tqkv generate pocket --session chat.session 'Why?'");
  command->callback([options] { generate(*options); });
}

}  // namespace tqkv::cli
