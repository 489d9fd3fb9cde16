// Files, prompts and contexts that cannot be used: one line that says what was found and what to do, exit code 1.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "model_folder.h"
#include "support/checkpoint_writer.h"
#include "support/process.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;

void check_failure(const ProcessResult& result, const std::string& kind, const std::vector<std::string>& parts) {
  CAPTURE(result.error);
  CHECK(result.exit_code == 1);
  CHECK(result.output.empty());
  CHECK(result.error.rfind("tqkv: [" + kind + "] ", 0) == 0);
  CHECK(lines_in(result.error) == 1);
  for (const std::string& part : parts) CHECK(contains(result.error, part));
}

ProcessResult ask(const std::string& model, std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"generate", model, "Hi", "--max-tokens", "1"});
  return run_tqkv(more);
}

TEST_CASE("an empty prompt is refused wherever it comes from") {
  const TemporaryDirectory folder;
  const std::string empty = folder.write("empty.txt", "\n \n");
  check_failure(run_tqkv({"generate", "pocket", ""}), "input", {"prompt", "empty"});
  check_failure(run_tqkv({"generate", "pocket", "  \n"}), "input", {"prompt", "empty"});
  check_failure(run_tqkv({"generate", "pocket", "--file", empty}), "input", {"prompt", "empty"});
  check_failure(run_tqkv({"generate", "pocket", "-"}), "input", {"prompt", "empty"});
  check_failure(run_tqkv({"generate", "pocket", "", "--raw"}), "input", {"prompt", "empty"});
}

TEST_CASE("a prompt longer than the context is refused with both counts") {
  ProcessOptions options;
  for (int i = 0; i < 33000; ++i) options.input += "word ";
  check_failure(run_tqkv({"generate", "pocket", "-"}, options), "input", {"tokens", "the model's context is 32768"});
  check_failure(ask("pocket", {"--context", "5"}), "input", {"14 tokens", "--context is 5"});
}

TEST_CASE("a context beyond the model's is refused with both") {
  const ProcessResult result = ask("pocket", {"--context", "40000"});
  CHECK(result.exit_code == 2);
  CHECK(result.error.rfind("tqkv: [usage] ", 0) == 0);
  CHECK(contains(result.error, "40"));
  CHECK(contains(result.error, "32"));
}

TEST_CASE("a full disk behind --output leaves no file, and an older one as it was") {
  const TemporaryDirectory folder;
  const std::string ids = folder.write("ids.json", "[1, 2, 3, 4, 5, 6, 7, 8]");
  const std::string output = folder.write("output", "older");
  ProcessOptions full;
  full.largest_file = 4096;
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"logits", "pocket", "--ids", ids, "--output", output},
        {"benchmark", "pocket", "--backend", "baseline,turboquant", "--prompt-tokens", "8", "--generation-tokens", "2",
         "--trials", "2", "--output", output},
        {"inspect", "pocket", "--json", "--output", output}}) {
    CAPTURE(arguments.front());
    const ProcessResult result = run_tqkv(arguments, full);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.error, "tqkv: [io] " + output + ": cannot be written: "));
    CHECK(read_text(output) == "older");
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      CAPTURE(entry.path().string());
      ++files;
    }
    CHECK(files == 2);  // no temporary one is left
  }
}

TEST_CASE("a shard that is cut short while it is mapped ends the run with one line") {
  if (!std::filesystem::exists("/proc/self/maps")) {
    MESSAGE("this system does not tell what a process has mapped: skipped");
    return;
  }
  const std::string shard = "model-00002-of-00002.safetensors";
  const TemporaryDirectory folder;
  const std::string model = pocket_with(folder, {{shard, pocket_text(shard)}});
  ProcessOptions options;
  options.input = "Hi";
  options.environment = {{"ASAN_OPTIONS", "handle_sigbus=0"}};  // a sanitizer would take the signal for itself
  // The prompt is read after the weights are mapped, so the program waits for it until the file is cut.
  options.before_input = [&](pid_t child) {
    const std::string maps = "/proc/" + std::to_string(child) + "/maps";
    siginfo_t ended{};  // the list is empty for a moment while the program is being started too
    while (!contains(read_text(maps), shard) && ended.si_pid == 0)
      ::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT);
    std::filesystem::resize_file(std::filesystem::path(model) / shard, 4096);
  };
  const ProcessResult result = run_tqkv({"generate", model, "-", "--max-tokens", "4"}, options);
  CAPTURE(result.error);
  CHECK(result.exit_code == 1);
  CHECK(contains(result.error, "tqkv: [io] a file of the model was cut short"));
}

TEST_CASE("a model that is not there is refused with the place searched") {
  check_failure(ask("/no/such/folder"), "checkpoint", {"/no/such/folder"});
  const TemporaryDirectory home;
  ProcessOptions options;
  options.environment = {
      {"HF_HOME", home.path().string()}, {"HF_HUB_CACHE", (home.path() / "hub").string()}, {"HF_HUB_OFFLINE", "1"}};
  check_failure(run_tqkv({"generate", "mlx-community/Qwen3.5-35B-A3B-4bit", "Hi"}, options), "checkpoint",
                {"20.4 GB", "tqkv pull mlx-community/Qwen3.5-35B-A3B-4bit", home.path().string()});
}

TEST_CASE("broken model files are refused by name") {
  struct Case {
    const char* file;
    std::optional<std::string> text;
    const char* kind;
  };
  const std::vector<Case> cases = {
      {"config.json", std::nullopt, "c"},
      {"config.json", "{\"model_type\": ", "config"},
      {"config.json", "{\"model_type\": \"llama\"}", "config"},
      {"tokenizer.json", std::nullopt, "tokenizer"},
      {"tokenizer.json", "{\"model\": 5}", "tokenizer"},
      {"generation_config.json", "{\"temperature\": \"warm\"}", "config"},
      {"model-00002-of-00002.safetensors", std::nullopt, "checkpoint"},
      {"model-00001-of-00002.safetensors", "short", "checkpoint"},
      {"model.safetensors.index.json", "[]", "checkpoint"},
  };
  for (const Case& broken : cases) {
    CAPTURE(broken.file);
    const TemporaryDirectory folder;
    const ProcessResult result = ask(pocket_with(folder, {{broken.file, broken.text}}));
    CAPTURE(result.error);
    CHECK(result.exit_code == 1);
    CHECK(result.output.empty());
    CHECK(lines_in(result.error) == 1);
    CHECK(result.error.rfind(std::string("tqkv: [") + broken.kind, 0) == 0);
    CHECK(contains(result.error, broken.file));
  }
}

TEST_CASE("a chat template that is not Qwen markup is refused and --raw works without it") {
  const TemporaryDirectory folder;
  const std::string model = pocket_with(folder, {{"chat_template.jinja", "[INST] {{ message }} [/INST]"}});
  check_failure(ask(model), "chat", {"--raw", "--markup"});
  CHECK(ask(model, {"--raw"}).exit_code == 0);
}

TEST_CASE("a chat template that is not known is named with the markup that is used, and --markup decides") {
  const TemporaryDirectory folder;
  const std::string own = "{{- '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}\n" + pocket_text("chat_template.jinja");
  const std::string model = pocket_with(folder, {{"chat_template.jinja", own}});
  const ProcessResult unknown = ask(model, {"--print-prompt"});
  CHECK(unknown.exit_code == 0);
  CHECK(lines_in(unknown.error) == 1);
  CHECK(contains(unknown.error, "not a known one: the markup chatml is taken instead"));
  CHECK(!contains(unknown.output, "Be brief."));
  const ProcessResult chosen = ask(model, {"--print-prompt", "--markup", "qwen3.5", "--think"});
  CHECK(chosen.exit_code == 0);
  CHECK(chosen.error.empty());
  CHECK(chosen.output == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n");
  CHECK(ask(model, {"--print-prompt", "--markup", "chatml"}).output ==
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(ask(model, {"--print-prompt", "--markup", "raw"}).output == "Hi");

  const std::string renamed = replaced(pocket_text("chat_template.jinja"), "<|im_start|>assistant", "<|im_start|>bot");
  const TemporaryDirectory other;
  const std::string refused = pocket_with(other, {{"chat_template.jinja", renamed}});
  check_failure(ask(refused), "chat", {"the role \"bot\"", "--markup"});
  check_failure(run_tqkv({"chat", refused}), "chat", {"the role \"bot\"", "--markup"});
  CHECK(ask(refused, {"--markup", "chatml"}).exit_code == 0);
  CHECK(run_tqkv({"chat", "pocket", "--markup", "raw"}).exit_code == 2);
}

TEST_CASE("an option replaces a value of generation_config.json that cannot be used") {
  const TemporaryDirectory folder;
  const std::string model = pocket_with(
      folder, {{"generation_config.json", R"({"do_sample": true, "top_p": 7, "top_k": -1, "eos_token_id": 8185})"}});
  check_failure(ask(model), "config", {"generation_config.json", "top_p is 7"});
  check_failure(run_tqkv({"chat", model}), "config", {"generation_config.json", "top_p is 7"});
  CHECK(ask(model, {"--top-p", "0.9"}).exit_code == 0);
  CHECK(ask(model, {"--greedy"}).exit_code == 0);
}

TEST_CASE("a conversation that has no rendering is refused") {
  const TemporaryDirectory folder;
  const auto with = [&](const std::string& text) {
    return run_tqkv({"generate", "pocket", "--messages", folder.write("m.json", text)});
  };
  for (const std::string text : {"", "{", "5", "[5]", R"([{"content": "Hi"}])"}) {
    CAPTURE(text);
    const ProcessResult result = with(text);
    CAPTURE(result.error);
    CHECK(result.exit_code == 1);
    CHECK(lines_in(result.error) == 1);
    CHECK(result.error.rfind("tqkv: [chat] ", 0) == 0);
    CHECK(contains(result.error, text.starts_with('[') ? "messages[0]" : "m.json: "));
    CHECK(!contains(result.error, "json.exception"));
  }
  check_failure(with("[]"), "input", {"m.json", "empty"});
  check_failure(run_tqkv({"generate", "pocket", "--messages", "/no/such.json"}), "io", {"/no/such.json"});
  check_failure(run_tqkv({"generate", "pocket", "--file", "/no/such.txt"}), "io", {"/no/such.txt"});
}

TEST_CASE("pocket neither thinks nor knows tools, and says so") {
  const TemporaryDirectory folder;
  const std::string tools = folder.write("t.json", R"([{"type": "function", "function": {"name": "f"}}])");
  check_failure(ask("pocket", {"--think"}), "chat", {"does not think"});
  check_failure(ask("pocket", {"--tools", tools}), "chat", {"tool"});
}

}  // namespace
