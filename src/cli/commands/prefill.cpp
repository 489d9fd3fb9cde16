#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "cli/commands/commands.h"
#include "cli/options/options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/session/prompt.h"
#include "cli/session/saved.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "tqkv/continuation.h"
#include "tqkv/model.h"

namespace tqkv::cli {
namespace {

struct PrefillArguments {
  ModelOptions model;
  CacheOptions cache;
  PromptOptions prompt;
  std::string session, save_session;  // paths; empty: not given
  const CLI::App* command = nullptr;
};

StoredTurns prompt_of(const PrefillArguments& options, const Model& model, const Continuation& place) {
  int replaced = 0;
  StoredTurns prompt = make_stored(options.prompt, model, place, replaced);
  warn_about(replaced);
  return prompt;
}

void prefill(PrefillArguments options) {
  check_stored(options.prompt, !options.session.empty());
  std::optional<SavedSession> saved = open_saved(options.session);
  const KvFormat format =
      saved ? adopt(*saved, *options.command, options.cache, options.model) : options.cache.format();
  Model model(Checkpoint::open(find_model(options.model.model)));
  const Tokenizer& tokenizer = load_tokenizer(model);
  const Continuation place = continuation_of(saved, model);
  const StoredTurns prompt = prompt_of(options, model, place);
  const std::vector<int> ids = place.ids(encode(tokenizer, prompt.pieces));
  const int tokens = static_cast<int>(ids.size());

  const int context = context_for(options.model, model.config(), place.tokens() + tokens, 0);
  require_savable(options.save_session, model.config(), options.model, format, place.tokens() + tokens);
  const Loaded loaded = load(model, options.model, format, context, {tokens, &tokenizer}, saved ? &*saved : nullptr);
  if (saved) tell_restored(*saved, model.engine(), loaded.restore_s);
  saved.reset();  // its pages are the session's now
  note(describe_cache(loaded.session->cache()));
  const Interrupt interrupt;
  PrefillOptions prefill;
  prefill.progress = [&](int done) {
    show_prompt(done, tokens);
    return !interrupt.requested();
  };
  prefill.stop = interrupt.flag();
  const std::vector<int> ends = model.cuts().ends(loaded.session->ids(), ids);
  prefill.pieces.ends = ends;
  show_prompt(0, tokens);
  if (loaded.session->prefill(ids, prefill).empty()) {
    note("interrupted: nothing was saved");
    throw CLI::RuntimeError(interrupted_exit_code);
  }
  save(*loaded.session, options.save_session, {prompt.next, {}});
}

}  // namespace

void add_prefill(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<PrefillArguments>();
  CLI::App* command = program.add_subcommand("prefill", "Compute a long prompt once and save it for many questions");
  add_model_options(*command, options->model);
  add_stored_prompt_options(*command, options->prompt);
  command->add_option("--session", options->session, "Resume a saved session; only the new text is computed")
      ->type_name("FILE")
      ->group(session_group);
  command->add_option("--save-session", options->save_session, "File to write, for `generate --session`")
      ->required()
      ->type_name("FILE")
      ->group(session_group);
  options->command = command;
  add_cache_options(*command, options->cache, false);
  command->footer(
      "The text becomes the start of a user's turn. The PROMPT of `generate --session` follows it after a blank line.\n"
      "With --messages, the next PROMPT is a turn of its own. With --raw, it continues the text. Text from a pipe "
      "goes\n"
      "before PROMPT, as with `generate`.\n"
      "With --session, the new text is added to the stored text after a blank line, or becomes the next turn of a\n"
      "conversation. Both files may be the same.\n\n"
      "Examples:\n"
      "  tqkv prefill pocket --file long.txt --save-session long.session\n"
      "  tqkv generate pocket --session long.session 'What does it say about pages?'\n"
      "  tqkv prefill pocket --session long.session --file more.txt --save-session longer.session");
  command->callback([options] { prefill(*options); });
}

}  // namespace tqkv::cli
