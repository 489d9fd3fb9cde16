#include "tqkv/model.h"

#include <fmt/format.h>

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "generation/allowed_ids.h"
#include "text/turns.h"
#include "tqkv/error.h"
#include "tqkv/turns.h"

namespace tqkv {
namespace {

/// What is made when it is first asked for; a failure is one of whoever asked.
template <class Value>
class Lazy {
 public:
  template <class Make>
  const Value& get(const Make& make) {
    const std::lock_guard lock(mutex_);
    if (!value_) value_.emplace(make());
    return *value_;
  }

 private:
  std::mutex mutex_;
  std::optional<Value> value_;
};

}  // namespace

struct Model::Parts {
  explicit Parts(Checkpoint opened) : checkpoint(std::move(opened)), config(open_config(*checkpoint)) {}
  std::optional<Checkpoint> checkpoint;  // until the engine has it
  ModelConfig config;
  Lazy<Tokenizer> tokenizer;
  Lazy<GenerationDefaults> defaults;
  Lazy<std::pair<std::optional<ChatTemplate>, std::string>> chat;  // and what there is to say about it
  Lazy<std::vector<bool>> allowed;
  Lazy<std::shared_ptr<const Vocabulary>> vocabulary;
  std::unique_ptr<Engine> engine;
};

Model Model::open(std::string_view name) {
  return Model(Checkpoint::open(locate_model(name)));
}

Model::Model(Checkpoint checkpoint) : parts_(std::make_unique<Parts>(std::move(checkpoint))) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

const Checkpoint& Model::checkpoint() const {
  return parts_->engine ? parts_->engine->checkpoint() : *parts_->checkpoint;
}

const ModelConfig& Model::config() const {
  return parts_->config;
}

const Tokenizer& Model::tokenizer() const {
  return parts_->tokenizer.get([&] { return open_tokenizer(checkpoint()); });
}

ChatTemplate Model::chat(std::string_view markup, std::string* about) const {
  if (const auto named = ChatTemplate::named(markup)) {
    for (const std::string_view control : {text::start_of_turn, text::end_of_turn})
      if (!tokenizer().control_id(control))
        throw Error(ErrorKind::chat,
                    fmt::format("--markup {}: the tokenizer has no {}: use --markup raw", markup, control));
    return *named;
  }
  const auto& [chat, words] = parts_->chat.get([&] {
    std::string found;
    std::optional<ChatTemplate> opened = open_chat(checkpoint(), tokenizer(), &found);
    return std::pair(std::move(opened), std::move(found));
  });
  if (!chat) throw Error(ErrorKind::chat, words);
  if (about) *about = words;
  return *chat;
}

const GenerationDefaults& Model::defaults() const {
  return parts_->defaults.get([&] { return open_defaults(checkpoint(), config()); });
}

std::vector<int> Model::stop_ids(bool raw) const {
  std::vector<int> ids = defaults().stop_ids;
  if (raw) return ids;
  if (const auto end = end_of_turn(tokenizer())) ids.push_back(*end);
  return ids;
}

CutRule Model::cuts(int piece) const {
  return {piece, tokenizer().control_id(text::start_of_turn)};
}

const std::vector<bool>& Model::allowed_ids() const {
  return parts_->allowed.get([&] { return ids_with_token(tokenizer(), config().vocab_size); });
}

std::shared_ptr<const Vocabulary> Model::vocabulary() const {
  return parts_->vocabulary.get([&] { return std::make_shared<const Vocabulary>(tokenizer()); });
}

std::vector<int> Model::prompt(std::string_view question, const ChatOptions& options) const {
  return encode(tokenizer(), chat().render(user_message(question), options));
}

GenerateOptions Model::generate_options(const Sampling& sampling, bool raw) const {
  GenerateOptions options;
  options.sampling = sampling;
  options.stop_ids = stop_ids(raw);
  options.allowed = allowed_ids();
  options.cuts = cuts();
  options.weights = checkpoint().tensor_bytes();
  options.split_thinking = options.skip_special = !raw;
  return options;
}

GenerateOptions Model::answer_options(const ChatOptions& chat_options) const {
  require_sound(defaults());
  GenerateOptions options = generate_options(defaults().sampling);
  options.opens_thinking = chat().opens_thinking(chat_options);
  return options;
}

MemoryPlan Model::plan(const KvFormat& format, const PlanRequest& request) const {
  return plan_memory(config(), checkpoint().tensor_bytes(), format, request);
}

const Engine& Model::load(const DeviceOptions& options) {
  if (parts_->engine) throw Error(ErrorKind::internal, "model: it is loaded already");
  if (!parts_->checkpoint) throw Error(ErrorKind::internal, "model: loading it has failed before");
  Checkpoint checkpoint = std::move(*parts_->checkpoint);
  parts_->checkpoint.reset();
  parts_->engine = Engine::load(std::move(checkpoint), options);
  return *parts_->engine;
}

const Engine& Model::engine() const {
  if (!parts_->engine) throw Error(ErrorKind::internal, "model: it is not loaded");
  return *parts_->engine;
}

}  // namespace tqkv
