// From options to a session: the memory plan, the engine, and what is said about them.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "cli/options/options.h"
#include "runtime/plan/running.h"
#include "tqkv/engine.h"
#include "tqkv/memory_plan.h"
#include "tqkv/model.h"
#include "tqkv/tokenizer.h"

namespace tqkv::cli {

/// The tokenizer of a checkpoint; what it had to put right is reported on standard error. Throws Error(tokenizer).
Tokenizer load_tokenizer(const Checkpoint& checkpoint);
/// The same for the one of a model, asked for here first.
const Tokenizer& load_tokenizer(const Model& model);

/// Tokens of context: --context, else what `prompt` and `generated` tokens need, of which the last is not stored, at
/// most the native context. Throws Error(input) when the prompt alone does not fit.
int context_for(const ModelOptions& options, const ModelConfig& config, int prompt, int generated);

struct Loaded {
  MemoryPlan plan;
  Announcement announcement;
  std::unique_ptr<Session> session;  // of the model's engine
  double restore_s = 0;              // seconds that restoring took
};

/// What a session is loaded for.
struct Work {
  int prompt = 1;                        // most tokens that it is fed at once
  const Tokenizer* tokenizer = nullptr;  // the one beside it
  bool every_row = false;                // logits of every token are asked for
};

/// Plans the memory of one session, warns or refuses (--force: warns) with
/// the plan on standard error, loads the model and opens it, or restores `saved`, whose tokens are in `context`.
Loaded load(Model& model, const ModelOptions& options, const KvFormat& format, int context, const Work& work,
            const SavedSession* saved = nullptr);

/// The device to load a model on; a device that copies weights shows on the terminal how far it is.
DeviceOptions shown_device(const ModelOptions& options);

/// The same for a plan made elsewhere, of the checkpoint in `directory`: the plan and one line on standard error where
/// it does not fit well, or Error(memory); a line about other large models that run; and this process counts for the
/// next one while the result lives.
[[nodiscard]] Announcement admit(const MemoryPlan& plan, const ModelOptions& options,
                                 const std::filesystem::path& directory);

/// One line: canonical format, keys, values and the layers they are in.
std::string describe_cache(const CacheReport& cache);
/// Says what is not as it should be on the device, once its sessions are open, and where its precision is not `asked`.
void note_device(const Engine& engine, Precision asked);
/// What a text that is shorter than its format's mean goes without; empty for others.
std::string describe_plain(const CacheReport& cache);

/// "what 2048/8192" on one line of standard error, cleared at the end; nothing when that is no terminal.
void show_progress(std::string_view what, int done, int total);
/// The same for a prompt, where it takes a moment; and Ctrl-C says meanwhile that it is heard.
void show_prompt(int done, int total);

}  // namespace tqkv::cli
