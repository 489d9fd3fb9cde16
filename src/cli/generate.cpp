#include "tqkv/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "commands.h"
#include "fetching.h"
#include "generate_report.h"
#include "interrupt.h"
#include "loading.h"
#include "options.h"
#include "output.h"
#include "program.h"
#include "prompt.h"
#include "saved.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

constexpr const char* sampling_group = "Sampling";
constexpr int default_max_tokens = 4096;

struct SamplingOptions {
  bool greedy = false;
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty;
  std::optional<int> top_k;
  std::optional<std::uint64_t> seed;
};

struct Options {
  ModelOptions model;
  CacheOptions cache;
  PromptOptions prompt;
  SamplingOptions sampling;
  int max_tokens = default_max_tokens;
  bool stats = false, json = false, print_prompt = false;
  std::string session, save_session;  // paths; empty: not given
  const CLI::App* command = nullptr;
};

void add_sampling_options(CLI::App& command, SamplingOptions& options) {
  const auto add = [&](const char* flag, auto& target, const char* type, const char* help) {
    return command.add_option(flag, target, help)->type_name(type)->group(sampling_group);
  };
  CLI::Option* greedy =
      command.add_flag("--greedy", options.greedy, "Always the most likely token")->group(sampling_group);
  add("--temperature", options.temperature, "T", "0 is greedy")->excludes(greedy);
  add("--top-p", options.top_p, "P", "Most likely tokens that hold this share; 1 is off")->excludes(greedy);
  add("--top-k", options.top_k, "K", "The K most likely tokens; 0 is off")->excludes(greedy);
  add("--min-p", options.min_p, "P", "Tokens this likely next to the most likely one; 0 is off")->excludes(greedy);
  add("--repetition-penalty", options.repetition_penalty, "X", "Against every token seen; 1 is off");
  add("--presence-penalty", options.presence_penalty, "X", "Against every token generated; 0 is off");
  add("--seed", options.seed, "N", "Repeats a run (default: a fresh one, shown with --stats)")
      ->check(CLI::NonNegativeNumber);
}

/// The checkpoint's sampling with what was asked for on top. Asking how to sample turns sampling on.
Sampling combine(Sampling sampling, const SamplingOptions& options) {
  if (options.temperature || options.top_p || options.top_k || options.min_p) sampling.greedy = false;
  if (options.greedy) sampling.greedy = true;
  sampling.temperature = options.temperature.value_or(sampling.temperature);
  sampling.top_p = options.top_p.value_or(sampling.top_p);
  sampling.top_k = options.top_k.value_or(sampling.top_k);
  sampling.min_p = options.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = options.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.presence_penalty = options.presence_penalty.value_or(sampling.presence_penalty);
  if (options.seed)
    sampling.seed = *options.seed;
  else
    sampling.seed = std::random_device{}();
  return sampling;
}

/// Writes the answer to standard output and thinking to standard error, dim on a terminal, as they come.
class Stream {
 public:
  void operator()(Part part, std::string_view text) {
    if (part == Part::thinking) {
      if (!thinking_ && error_has_colour()) print_error("\033[2m");
      thinking_ = true;
      print_error(text);
      return;
    }
    end_thinking();
    print(text);
    ends_line_ = text.back() == '\n';
  }
  void finish() {
    end_thinking();
    if (!ends_line_) print("\n");
  }
  void end_thinking() {
    if (!thinking_) return;
    print_error(error_has_colour() ? "\033[0m\n\n" : "\n\n");
    thinking_ = false;
  }

 private:
  bool thinking_ = false;
  bool ends_line_ = true;
};

/// The prompt, or what goes on after a saved session.
Prompt prompt_of(const Options& options, const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                 const std::optional<SavedSession>& saved) {
  const NextText next = saved ? saved->text().next : NextText::conversation;
  const bool raw = options.prompt.raw || next == NextText::raw;
  const std::optional<ChatTemplate> chat = raw ? std::nullopt : open_chat(checkpoint, tokenizer);
  int replaced = 0;
  const bool ended = saved && tokenizer.control_id("<|im_end|>") == saved->last_id();
  Prompt prompt = saved ? make_next_prompt(options.prompt, chat, next, ended, replaced)
                        : make_prompt(options.prompt, chat, replaced);
  warn_about(replaced);
  return prompt;
}

void print_prompt(const Options& options, const std::filesystem::path& directory,
                  const std::optional<SavedSession>& saved) {
  const Checkpoint checkpoint = Checkpoint::open_without_weights(directory);
  const Tokenizer tokenizer = load_tokenizer(checkpoint);
  print(text_of(prompt_of(options, checkpoint, tokenizer, saved).pieces));
}

void say_how_it_ended(const GenerateResult& result, const Options& options) {
  if (result.ended_thinking) note("the answer ended inside thinking: give more --max-tokens, or --no-think");
  if (result.reason == FinishReason::length && !result.ended_thinking)
    note(
        fmt::format("stopped after {} token{} (--max-tokens)", options.max_tokens, options.max_tokens == 1 ? "" : "s"));
  if (result.reason == FinishReason::context)
    note(fmt::format("stopped: the context of {} tokens is full (--context)", result.cache.tokens));
  if (result.reason == FinishReason::cancelled) {
    if (error_is_terminal()) print_error("\n");  // after ^C or the progress
    note("interrupted");
  }
}

/// Saves unless the prompt was not read to its end: nothing could go on from there. The last id was sampled, not fed.
void save_result(const Options& options, const Session& session, const GenerateResult& result, bool raw) {
  if (options.save_session.empty()) return;
  if (result.ids.empty()) return note(fmt::format("{}: not saved", options.save_session));
  save(session, options.save_session, {raw ? NextText::raw : NextText::conversation, {result.ids.back()}});
}

void generate(Options options) {
  check(options.prompt, !options.session.empty());
  check(combine({}, options.sampling));
  std::optional<SavedSession> saved = open_saved(options.session);
  const KvFormat format =
      saved ? adopt(*saved, *options.command, options.cache, options.model) : options.cache.format();
  const std::filesystem::path directory =
      find_model(options.model.model, options.print_prompt ? Needs::no_weights : Needs::everything);
  if (options.print_prompt) {
    print_prompt(options, directory, saved);
    return;
  }

  Checkpoint checkpoint = Checkpoint::open(directory);
  const ModelConfig config = open_config(checkpoint);
  const Tokenizer tokenizer = load_tokenizer(checkpoint);
  const GenerationDefaults defaults = open_defaults(checkpoint, config);
  const Prompt prompt = prompt_of(options, checkpoint, tokenizer, saved);
  const bool raw = prompt.raw;
  std::vector<int> ids = encode(tokenizer, prompt.pieces);
  int restored = 0;
  if (saved) {
    const std::vector<int>& pending = saved->text().pending;
    ids.insert(ids.begin(), pending.begin(), pending.end());
    restored = saved->tokens();
  }
  const int tokens = static_cast<int>(ids.size());
  const int context = context_for(options.model, config, restored + tokens, options.max_tokens);
  if (!options.save_session.empty()) require_writable(options.save_session);

  const std::uint64_t weights = checkpoint.tensor_bytes();
  const Loaded loaded = load(std::move(checkpoint), options.model, format, context, tokens, saved ? &*saved : nullptr);
  if (saved) tell_restored(*saved, *loaded.engine, loaded.restore_s);
  saved.reset();  // its pages are the session's now
  note(describe_cache(loaded.session->cache()));

  const Interrupt interrupt;
  GenerateOptions generation;
  generation.sampling = combine(defaults.sampling, options.sampling);
  generation.stop_ids = defaults.stop_ids;
  generation.max_tokens = options.max_tokens;
  generation.split_thinking = generation.skip_special = !raw;
  generation.opens_thinking = prompt.opens_thinking;
  generation.cancel = interrupt.flag();
  generation.progress = [](int done, int total) { show_progress("prefill", done, total); };
  if (!raw) {
    if (const auto end = tokenizer.control_id("<|im_end|>")) generation.stop_ids.push_back(*end);
  }
  Stream stream;
  TextSink sink;
  if (!options.json) sink = [&](Part part, std::string_view text) { stream(part, text); };
  if (tokens > options.model.prefill_chunk) show_progress("prefill", 0, tokens);
  const double startup = seconds_since_start();
  const GenerateResult result = tqkv::generate(*loaded.session, tokenizer, ids, generation, sink);
  if (!options.json) stream.finish();

  const GenerateReport report{
      options.model.model, loaded.engine->device(), generation.sampling, weights, context, restored, startup, &result};
  if (options.json) print(report_json(report));
  say_how_it_ended(result, options);
  const bool cancelled = result.reason == FinishReason::cancelled;
  if (options.stats) print_error(describe(loaded.plan));
  if (options.stats || cancelled) print_error(statistics_text(report));
  save_result(options, *loaded.session, result, raw);
  if (cancelled) throw CLI::RuntimeError(interrupted_exit_code);
}

}  // namespace

void add_generate(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("generate", "Answer a prompt");
  add_model_options(*command, options->model);
  add_prompt_options(*command, options->prompt);
  command->add_option("--max-tokens", options->max_tokens, "Most tokens to generate, thinking included")
      ->check(CLI::Range(1, max_count))
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--stats", options->stats, "Print speed, cache bytes and the memory plan to standard error");
  command->add_flag("--json", options->json, "Print one JSON object instead of the answer");
  command->add_flag("--print-prompt", options->print_prompt, "Print the rendered prompt and stop; needs no weights")
      ->excludes("--stats")
      ->excludes("--json");
  command
      ->add_option("--session", options->session,
                   "Go on from a saved session: PROMPT is the rest of its user's turn, a new turn, or raw")
      ->type_name("FILE")
      ->group(session_group);
  command->add_option("--save-session", options->save_session, "Save the session with the answer, for --session")
      ->type_name("FILE")
      ->group(session_group);
  options->command = command;
  add_sampling_options(*command, options->sampling);
  add_cache_options(*command, options->cache, false);
  command->footer(
      "The answer goes to standard output, thinking and everything else to standard error. Sampling starts from the\n"
      "model's generation_config.json. A PROMPT that begins with - goes after --.\n\n"
      "With --session, tokens that were saved are not computed again. Of a text that `prefill` stored, PROMPT is the\n"
      "question, after a blank line; of a conversation it is the next turn of the user; of a raw session, or with "
      "--raw,\n"
      "it continues the text and may be left out. Format, precision and state are those of the session.\n\n"
      "Examples:\n"
      "  tqkv generate pocket 'Hi, what can you help me with?' --backend baseline\n"
      "  tqkv generate pocket --file notes.txt 'What does it say?' --backend turboquant --kv-bits 3.5 --stats\n"
      "  git diff | tqkv generate pocket - --system 'Write a commit message.' --max-tokens 200\n"
      "  tqkv generate pocket 'Once upon' --raw --temperature 0.8 --seed 7 --json\n"
      "  tqkv generate pocket 'Hi' --save-session chat.session && tqkv generate pocket --session chat.session 'Why?'");
  command->callback([options] { generate(*options); });
}

}  // namespace tqkv::cli
