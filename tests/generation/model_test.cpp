// What a frontend opens once: config, tokenizer, markup, defaults, and the engine after a plan.
#include "tqkv/model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "support/failure.h"
#include "support/reference.h"
#include "support/temporary_directory.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

namespace fs = std::filesystem;

/// The pocket checkpoint with other texts in some files, or without them.
fs::path pocket_but(const TemporaryDirectory& folder, const std::map<std::string, std::optional<std::string>>& files) {
  for (const auto& entry : fs::directory_iterator(pocket_directory()))
    if (!files.contains(entry.path().filename().string()))
      fs::create_symlink(entry.path(), folder.path() / entry.path().filename());
  for (const auto& [name, text] : files)
    if (text) std::ofstream(folder.path() / name) << *text;
  return folder.path();
}

TEST_CASE("a question with quotes and markup in it is answered through the model alone") {
  Model model = Model::open(pocket_directory().string());
  const std::string question = "What does \"std::vector\" do?\n<|im_end|>";
  const std::vector<int> prompt = model.prompt(question);
  CHECK(model.tokenizer().decode(prompt).find(question) != std::string::npos);
  CHECK(std::count(prompt.begin(), prompt.end(), *model.tokenizer().control_id("<|im_end|>")) == 1);

  GenerateOptions options = model.answer_options();
  CHECK(options.sampling.is_greedy());
  CHECK_FALSE(options.opens_thinking);
  options.max_tokens = 8;
  const Engine& engine = model.load();
  const auto session = engine.open(KvFormat::usual(), {.context = 256});
  CHECK_FALSE(generate(*session, model.tokenizer(), prompt, options).answer.empty());
}

TEST_CASE("an answer stops at the end of a turn too, raw text only where the checkpoint says") {
  const TemporaryDirectory folder;
  const Model model(Checkpoint::open_without_weights(
      pocket_but(folder, {{"generation_config.json", R"({"eos_token_id": 5, "do_sample": true, "top_k": "many"})"}})));
  const int end = *model.tokenizer().control_id("<|im_end|>");
  CHECK(model.stop_ids() == std::vector<int>{5, end});
  CHECK(model.stop_ids(true) == std::vector<int>{5});
  CHECK(failure(ErrorKind::config, [&] { model.answer_options(); }).find("top_k") != std::string::npos);
  const GenerateOptions raw = model.generate_options({.greedy = true}, true);
  CHECK(raw.stop_ids == std::vector<int>{5});
  CHECK_FALSE(raw.split_thinking);
  CHECK_FALSE(raw.skip_special);
  CHECK(model.generate_options({}).skip_special);
}

TEST_CASE("ids that may be chosen are those that have a token") {
  const Model model(Checkpoint::open_without_weights(pocket_directory()));
  const std::vector<bool>& allowed = model.allowed_ids();
  REQUIRE(static_cast<int>(allowed.size()) == model.config().vocab_size);
  for (int id = 0; id < model.config().vocab_size; ++id)
    CHECK(allowed[static_cast<std::size_t>(id)] == model.tokenizer().has_token(id));
}

TEST_CASE("a plan comes before the weights, which are loaded once") {
  Model model = Model::open(pocket_directory().string());
  CHECK(failure(ErrorKind::internal, [&] { model.engine(); }).find("not loaded") != std::string::npos);
  const MemoryPlan plan = model.plan(KvFormat::usual(), {.session = {.context = 1024}});
  CHECK(plan.context == 1024);
  CHECK(plan.weights == model.checkpoint().tensor_bytes());
  const Engine& engine = model.load();
  CHECK(&engine == &model.engine());
  CHECK(&model.checkpoint() == &engine.checkpoint());
  CHECK(failure(ErrorKind::internal, [&] { model.load(); }).find("already") != std::string::npos);
  Model moved = std::move(model);
  CHECK(&engine == &moved.engine());
}

TEST_CASE("what a model lacks is missed by those who ask for it") {
  SUBCASE("config.json: by all, and in the same words also where it went while the model was open") {
    const TemporaryDirectory folder;
    const fs::path copy = pocket_but(folder, {{"model.safetensors", std::nullopt}});
    const Checkpoint checkpoint = Checkpoint::open_without_weights(copy);
    fs::remove(copy / "config.json");
    const auto later = failure(ErrorKind::checkpoint, [&] { open_config(checkpoint); });
    CHECK(later.find("has no config.json") != std::string::npos);
    CHECK(later == failure(ErrorKind::checkpoint, [&] { Model::open(copy.string()); }));
  }
  SUBCASE("the tokenizer") {
    const TemporaryDirectory folder;
    const Model model(Checkpoint::open_without_weights(pocket_but(folder, {{"tokenizer.json", std::nullopt}})));
    CHECK(model.config().vocab_size > 0);
    CHECK(failure(ErrorKind::tokenizer, [&] { model.tokenizer(); }).find("there is no such file") != std::string::npos);
  }
  SUBCASE("a vocabulary that has room for the tokenizer's ids") {
    const TemporaryDirectory folder;
    const Checkpoint pocket = Checkpoint::open_without_weights(pocket_directory());
    std::string config = *pocket.text("config.json");
    const std::string size = std::to_string(open_config(pocket).vocab_size);
    config.replace(config.find(size), size.size(), "8188");
    const Model model(Checkpoint::open_without_weights(pocket_but(folder, {{"config.json", config}})));
    CHECK(failure(ErrorKind::tokenizer, [&] { model.tokenizer(); }).find("different models") != std::string::npos);
  }
  SUBCASE("the template, unless the markup is named") {
    const TemporaryDirectory folder;
    const Model model(
        Checkpoint::open_without_weights(pocket_but(folder, {{"chat_template.jinja", "[INST] [/INST]"}})));
    CHECK_FALSE(failure(ErrorKind::chat, [&] { model.chat(); }).empty());
    CHECK(model.chat("qwen3.5").variant() == ChatVariant::qwen3_5);
  }
  SUBCASE("nothing of the template that goes after it was read") {
    const TemporaryDirectory folder;
    const fs::path copy = pocket_but(folder, {});
    const Model model(Checkpoint::open_without_weights(copy));
    const ChatVariant before = model.chat().variant();
    fs::remove(copy / "chat_template.jinja");
    CHECK(model.chat().variant() == before);
  }
}

}  // namespace
