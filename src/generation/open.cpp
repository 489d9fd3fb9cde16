// Parts of a checkpoint beside its weights.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "loaders/config_file.h"
#include "tqkv/error.h"
#include "tqkv/model.h"

namespace tqkv {
namespace {

using nlohmann::json;

std::string where(const Checkpoint& checkpoint, const char* file) {
  return (checkpoint.directory() / file).string();
}

/// The template in `config`: a string, or a list of named ones of which "default" counts. Empty: none.
std::string template_in(const json& config, const std::string& place) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const json& entry : *found) {
      if (!entry.is_object() || entry.value("name", json()) != "default") continue;
      const auto text = entry.find("template");
      if (text != entry.end() && text->is_string()) return text->get<std::string>();
    }
  }
  throw Error(ErrorKind::chat, fmt::format("{}: chat_template is neither a text nor a list with a default one", place));
}

}  // namespace

ModelConfig open_config(const Checkpoint& checkpoint) {
  return ModelConfig::parse(config_text(checkpoint), config_place(checkpoint));
}

Tokenizer open_tokenizer(const Checkpoint& checkpoint) {
  const std::string place = where(checkpoint, "tokenizer.json");
  const auto text = checkpoint.text("tokenizer.json");
  if (!text)
    throw Error(ErrorKind::tokenizer,
                fmt::format("{}: there is no such file: the model directory is incomplete", place));
  Tokenizer tokenizer = Tokenizer::parse(*text, checkpoint.text("tokenizer_config.json").value_or(""), place);
  const int vocabulary = open_config(checkpoint).vocab_size;
  if (tokenizer.size() > vocabulary)
    throw Error(
        ErrorKind::tokenizer,
        fmt::format("{}: ids up to {}, but config.json has a vocabulary of {}: the files are of different models",
                    place, tokenizer.size() - 1, vocabulary));
  return tokenizer;
}

std::optional<ChatTemplate> open_chat(const Checkpoint& checkpoint, const Tokenizer& tokenizer, std::string* about) {
  if (const auto text = checkpoint.text("chat_template.jinja")) return ChatTemplate::detect(*text, tokenizer, about);
  for (const char* file : {"chat_template.json", "tokenizer_config.json"}) {
    const auto text = checkpoint.text(file);
    if (!text) continue;
    const json config = json::parse(*text, nullptr, false);
    if (!config.is_object())
      throw Error(ErrorKind::chat, fmt::format("{}: must contain a JSON object", where(checkpoint, file)));
    const std::string found = template_in(config, where(checkpoint, file));
    if (!found.empty()) return ChatTemplate::detect(found, tokenizer, about);
  }
  if (about) *about = "the model has no chat template: choose with --markup qwen3.5, qwen3.6 or chatml, or use --raw";
  return std::nullopt;
}

GenerationDefaults open_defaults(const Checkpoint& checkpoint, const ModelConfig& config) {
  GenerationDefaults defaults;
  defaults.sampling.greedy = true;
  if (const auto text = checkpoint.text("generation_config.json"))
    defaults = GenerationDefaults::parse(*text, where(checkpoint, "generation_config.json"));
  if (defaults.stop_ids.empty()) defaults.stop_ids = config.eos_token_ids;
  return defaults;
}

}  // namespace tqkv
