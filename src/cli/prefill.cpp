#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "commands.h"
#include "fetching.h"
#include "interrupt.h"
#include "loading.h"
#include "options.h"
#include "output.h"
#include "program.h"
#include "prompt.h"
#include "saved.h"
#include "tqkv/error.h"
#include "tqkv/generate.h"

namespace tqkv::cli {
namespace {

struct Options {
  ModelOptions model;
  CacheOptions cache;
  PromptOptions prompt;
  std::string save_session;
};

void prefill(const Options& options) {
  check_stored(options.prompt);
  const KvFormat format = options.cache.format();
  Checkpoint checkpoint = Checkpoint::open(find_model(options.model.model));
  const ModelConfig config = open_config(checkpoint);
  const Tokenizer tokenizer = load_tokenizer(checkpoint);
  int replaced = 0;
  const bool raw = options.prompt.raw;
  const StoredPrompt prompt =
      make_stored(options.prompt, raw ? std::nullopt : open_chat(checkpoint, tokenizer), replaced);
  warn_about(replaced);
  const std::vector<int> ids = encode(tokenizer, prompt.pieces);
  const int tokens = static_cast<int>(ids.size());
  require_writable(options.save_session);

  const Loaded loaded = load(std::move(checkpoint), options.model, format,
                             context_for(options.model, config, tokens, 0), {tokens, &tokenizer});
  note(describe_cache(loaded.session->cache()));
  const Interrupt interrupt;
  PrefillOptions prefill;
  prefill.progress = [&](int done) {
    show_progress("prefill", done, tokens);
    return !interrupt.requested();
  };
  if (tokens > options.model.prefill_chunk) show_progress("prefill", 0, tokens);
  if (loaded.session->prefill(ids, prefill).empty()) {
    note("interrupted: nothing was saved");
    throw CLI::RuntimeError(interrupted_exit_code);
  }
  save(*loaded.session, options.save_session, {prompt.next, {}});
}

}  // namespace

void add_prefill(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<Options>();
  CLI::App* command = program.add_subcommand("prefill", "Compute a long prompt once and save it for many questions");
  add_model_options(*command, options->model);
  add_stored_prompt_options(*command, options->prompt);
  command->add_option("--save-session", options->save_session, "File to write: `generate --session` goes on from it")
      ->required()
      ->type_name("FILE")
      ->group(session_group);
  add_cache_options(*command, options->cache, false);
  command->footer(
      "The text becomes the beginning of a user's turn: the PROMPT of `generate --session` follows it after a blank\n"
      "line, as with `generate --file`. With --messages the next PROMPT is a turn of its own, with --raw it continues\n"
      "the text.\n\n"
      "Examples:\n"
      "  tqkv prefill pocket --file long.txt --save-session long.session\n"
      "  tqkv generate pocket --session long.session 'What does it say about pages?'");
  command->callback([options] { prefill(*options); });
}

}  // namespace tqkv::cli
