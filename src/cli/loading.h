// From options to a session: the memory plan, the engine, and what is said about them.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "options.h"
#include "tqkv/engine.h"
#include "tqkv/memory_plan.h"
#include "tqkv/model_config.h"
#include "tqkv/tokenizer.h"

namespace tqkv::cli {

/// config.json of a checkpoint. Throws Error(config).
ModelConfig open_config(const Checkpoint& checkpoint);

/// The tokenizer of a checkpoint; what it had to put right is told on standard error. Throws Error(tokenizer), also
/// when it has ids beyond the vocabulary of config.json.
Tokenizer load_tokenizer(const Checkpoint& checkpoint);

/// Tokens of context: --context, else what `prompt` and `generated` tokens need, of which the last is not stored, at
/// most the native context. Throws Error(input) when the prompt alone does not fit.
int context_for(const ModelOptions& options, const ModelConfig& config, int prompt, int generated);

struct Loaded {
  MemoryPlan plan;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Session> session;
  double restore_s = 0;  // seconds that restoring took
};

/// Plans the memory of one session that is fed `prompt` tokens at once at most, warns or refuses (--force: warns) with
/// the plan on standard error, and opens it, or restores `saved`, whose tokens are in `context`.
Loaded load(Checkpoint checkpoint, const ModelOptions& options, const KvFormat& format, int context, int prompt,
            const SavedSession* saved = nullptr);

/// The same check for a plan made elsewhere: the plan and one line on standard error, or Error(memory).
void check_plan(const MemoryPlan& plan, bool force);

/// One line: canonical format, keys, values and the layers they are in.
std::string describe_cache(const CacheReport& cache);

/// "what 2048/8192" on one line of standard error, cleared at the end; nothing when that is no terminal.
void show_progress(std::string_view what, int done, int total);

}  // namespace tqkv::cli
