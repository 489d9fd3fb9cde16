// Model: a checkpoint with everything around its weights that a conversation needs, and its engine once that is
// loaded. Implemented in src/generation.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tqkv/chat.h"
#include "tqkv/checkpoint.h"
#include "tqkv/engine.h"
#include "tqkv/generate.h"
#include "tqkv/memory_plan.h"
#include "tqkv/model_config.h"
#include "tqkv/sampling.h"
#include "tqkv/tokenizer.h"

namespace tqkv {

/// Move-only. Const functions can be used by several threads at once; load() cannot.
class Model {
 public:
  /// `name` is a directory or a name as locate_model() takes it. Throws Error(checkpoint) and Error(config).
  static Model open(std::string_view name);
  /// Of a checkpoint that is open. One without weights does everything but plan() and load(). Throws Error(config).
  explicit Model(Checkpoint checkpoint);
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  const Checkpoint& checkpoint() const;  ///< the engine's, once that is loaded
  const ModelConfig& config() const;

  // Each of these is read when it is first asked for: what nobody needs may be missing or broken.

  /// Throws Error(tokenizer).
  const Tokenizer& tokenizer() const;
  /// The markup named `markup`, or where that is empty the one of the checkpoint's template; `about` is then as for
  /// ChatTemplate::detect. Throws Error(chat) where there is none, or the tokenizer lacks its markers.
  ChatTemplate chat(std::string_view markup = {}, std::string* about = nullptr) const;
  /// Throws Error(config).
  const GenerationDefaults& defaults() const;
  /// Ids that end an answer: those of defaults(), and unless the text is `raw` the end of a turn.
  std::vector<int> stop_ids(bool raw = false) const;
  /// Where prompts are cut: in front of the marks of turns, and every `piece` ids from them.
  CutRule cuts(int piece = CutRule{}.piece) const;
  /// [vocab]: ids that have a token.
  const std::vector<bool>& allowed_ids() const;

  /// What its ids say, for grammars. Throws Error(tokenizer).
  std::shared_ptr<const Vocabulary> vocabulary() const;

  /// Ids of a conversation of one question.
  std::vector<int> prompt(std::string_view question, const ChatOptions& options = {}) const;
  /// How to generate with `sampling`: stop ids, allowed ids, weights to be watched, and for `raw` text nothing told
  /// apart or left out.
  GenerateOptions generate_options(const Sampling& sampling, bool raw = false) const;
  /// The same for an answer to a prompt that was rendered with `chat`, sampled as the checkpoint asks for. Throws
  /// Error(config) where that cannot be done.
  GenerateOptions answer_options(const ChatOptions& chat = {}) const;

  /// What a session will take, before anything is loaded. Throws as plan_memory().
  MemoryPlan plan(const KvFormat& format, const PlanRequest& request = {}) const;
  /// Loads the engine, once. It goes with the model, after its sessions.
  const Engine& load(const DeviceOptions& options = {});
  /// Throws Error(internal) before load().
  const Engine& engine() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// Parts of a checkpoint alone, for those who need no more. Throws Error(config).
ModelConfig open_config(const Checkpoint& checkpoint);
/// Throws Error(tokenizer), also for ids beyond the vocabulary of config.json, and Error(config).
Tokenizer open_tokenizer(const Checkpoint& checkpoint);
/// The chat markup: told from chat_template.jinja, else from chat_template in tokenizer_config.json. Nothing when there
/// is no template or its markup is another one. `about` is as for ChatTemplate::detect. Throws Error(chat) for files
/// that cannot be read.
std::optional<ChatTemplate> open_chat(const Checkpoint& checkpoint, const Tokenizer& tokenizer,
                                      std::string* about = nullptr);
/// generation_config.json; stop ids come from `config` when it names none. Throws Error(config).
GenerationDefaults open_defaults(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace tqkv
