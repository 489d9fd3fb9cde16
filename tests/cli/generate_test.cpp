// `tqkv generate` on the pocket model, as users run it.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "model_folder.h"
#include "support/process.h"

namespace {

using namespace tqkv::test;
using nlohmann::json;

const std::string greeting = "Hi, what can you help me with?";

ProcessResult generate(std::vector<std::string> arguments, const ProcessOptions& options = {}) {
  arguments.insert(arguments.begin(), {"generate", "pocket"});
  return run_tqkv(arguments, options);
}

json generate_json(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const ProcessResult result = generate(std::move(arguments));
  CAPTURE(result.error);
  REQUIRE(result.exit_code == 0);
  CHECK(lines_in(result.output) == 1);
  return json::parse(result.output);
}

std::string prompt_of(std::vector<std::string> arguments, const ProcessOptions& options = {}) {
  arguments.push_back("--print-prompt");
  const ProcessResult result = generate(std::move(arguments), options);
  CAPTURE(result.error);
  CHECK(result.exit_code == 0);
  return result.output;
}

TEST_CASE("the known commands run word for word") {
  const ProcessResult one = run_tqkv({"generate", "pocket", greeting, "--backend", "baseline", "--max-tokens", "1"});
  CHECK(one.exit_code == 0);
  CHECK(one.output == "I\n");
  CHECK(contains(one.error, "tqkv: baseline"));
  const ProcessResult two = run_tqkv({"generate", "pocket", greeting, "--backend", "turboquant", "--max-tokens", "2"});
  CHECK(two.exit_code == 0);
  CHECK(two.output == "I am\n");
  CHECK(contains(two.error, "tqkv: turboquant"));
}

TEST_CASE("programs side by side, more threads than cores and one thread give what one program gives alone") {
  const std::string alone = generate({greeting, "--temperature", "0"}).output;
  std::vector<std::string> found(4);
  std::vector<std::thread> runs;
  for (std::size_t i = 0; i < found.size(); ++i)
    runs.emplace_back([&found, i] {
      found[i] = generate({greeting, "--temperature", "0", "--threads", i == 0 ? "1" : i == 1 ? "67" : "2"}).output;
    });
  for (auto& run : runs) run.join();
  for (const auto& text : found) CHECK(text == alone);
}

TEST_CASE("every backend answers the greeting and says what is stored") {
  for (const char* backend : {"baseline", "mlx_quant", "mlx_quant:bits=8", "turboquant", "rotated_quant"}) {
    CAPTURE(backend);
    const ProcessResult result = generate({greeting, "--backend", backend});
    CHECK(result.exit_code == 0);
    CHECK(contains(result.output, "pocket-sized model"));
    CHECK(result.output.back() == '\n');
    CHECK(contains(result.error, "layers 3,7"));
  }
}

TEST_CASE("the format is the default when none is named, and is printed") {
  const ProcessResult result = generate({"Hi", "--max-tokens", "1"});
  CHECK(contains(result.error, "tqkv: turboquant:k=5:v=3:values=trellis"));
  CHECK(contains(result.error, "K turboquant 5 bit"));
}

TEST_CASE("statistics say when a text is too short for its mean") {
  CHECK(contains(generate({"Hi", "--max-tokens", "1", "--stats"}).error,
                 "mean=64 was not reached: all 14 keys are plain"));
}

TEST_CASE("options of the cache reach it") {
  CHECK(contains(generate({"Hi", "--max-tokens", "1", "--kv-bits", "3.5"}).error, "trellis:k=4:v=3"));
  CHECK(
      contains(generate({"Hi", "--max-tokens", "1", "--k-bits", "16", "--v-bits", "3"}).error, "K bf16, V trellis 3"));
  CHECK(contains(generate({"Hi", "--max-tokens", "1", "--kv-scalar", "norm", "--kv-seed", "9"}).error,
                 "scalar=norm:states=8:seed=9"));
  CHECK(contains(
      generate({"Hi", "--max-tokens", "1", "--backend", "mlx_quant", "--kv-bits", "8", "--kv-group-size", "64"}).error,
      "mlx_quant:k=8:v=8:group=64"));
}

TEST_CASE("the exact path says that plain caches are f32") {
  CHECK(contains(generate({"Hi", "--max-tokens", "1", "--backend", "baseline", "--precision", "f32"}).error,
                 "K and V f32"));
}

TEST_CASE("--json is one object with the answer, the figures and the format of each layer") {
  const json object = generate_json({greeting, "--max-tokens", "6"});
  CHECK(object["answer"].get<std::string>().rfind("I am a", 0) == 0);
  CHECK(object["thinking"] == "");
  CHECK(object["finish_reason"] == "length");
  CHECK(object["generated_tokens"] == 6);
  CHECK(object["ids"].size() == 6);
  CHECK(object["backend"] == "turboquant");
  REQUIRE(object["layers"].size() == 2);
  CHECK(object["layers"][1]["layer"] == 7);
  CHECK(object["sampling"]["greedy"] == true);
  const json& cache = object["cache"];
  CHECK(cache["tokens"] == object["prompt_tokens"].get<int>() + 5);  // the last token is not fed
  CHECK(cache["used"] == cache["kv_used"].get<int>() + cache["recurrent"].get<int>() + cache["convolution"].get<int>());
  CHECK(cache["allocated"] >= cache["used"]);
  const json& statistics = object["statistics"];
  CHECK(statistics["prompt_tps"] > 0);
  CHECK(statistics["generation_tps"] > 0);
  CHECK(statistics["time_to_first_token_s"] <= statistics["wall_s"]);
  CHECK(statistics["startup_s"] > 0);
  CHECK(statistics["peak_memory_gb"] > statistics["weights_gb"]);
}

TEST_CASE("an answer that the model ends itself has the reason stop") {
  const json object = generate_json({greeting});
  CHECK(object["finish_reason"] == "stop");
  CHECK(object["generated_tokens"] < 200);
}

TEST_CASE("--stop ends an answer before the first of its texts") {
  const json whole = generate_json({greeting, "--max-tokens", "24"});
  CHECK(whole["stop_string"].is_null());
  CHECK(whole["tool_calls"] == json::array());
  const std::string answer = whole["answer"];
  const std::size_t end = answer.find("pocket-sized");
  REQUIRE(end != std::string::npos);
  const json stopped = generate_json({greeting, "--stop", "nowhere", "--stop", "pocket-sized"});
  CHECK(stopped["answer"] == answer.substr(0, end));
  CHECK(stopped["finish_reason"] == "stop");
  CHECK(stopped["stop_string"] == "pocket-sized");
  CHECK(generate({greeting, "--stop", "pocket-sized"}).output == answer.substr(0, end) + "\n");
  ProcessOptions question;
  question.input = greeting + "\n";
  CHECK(run_tqkv({"chat", "pocket", "--stop", "pocket-sized"}, question).output == answer.substr(0, end) + "\n");
  const ProcessResult empty = generate({greeting, "--stop", ""});
  CHECK(empty.exit_code == 2);
  CHECK(contains(empty.error, "--stop: it is empty: give some text"));
}

TEST_CASE("--context ends an answer where it is full") {
  const json object = generate_json({greeting, "--context", "30"});
  CHECK(object["finish_reason"] == "context");
  CHECK(object["cache"]["tokens"] == 30);
}

TEST_CASE("--stats shows speed, cache bytes by kind, format, memory and the plan on standard error") {
  const ProcessResult result = generate({greeting, "--max-tokens", "4", "--stats"});
  for (const char* word : {"memory plan", "prompt", "first token after", "generation", "KV", "recurrent", "convolution",
                           "format", "weights", "anonymous", "greedy", "tokens/s"})
    CHECK_MESSAGE(contains(result.error, word), word);
  CHECK(contains(result.output, "I am a"));
  CHECK(lines_in(result.output) == 1);
}

TEST_CASE("a seed repeats a sampled answer, and the seed used is shown") {
  const auto sampled = [](const std::string& seed) {
    return generate_json(
        {"Once upon", "--raw", "--temperature", "1.5", "--top-k", "50", "--max-tokens", "16", "--seed", seed});
  };
  const json first = sampled("11");
  CHECK(first["sampling"]["seed"] == 11);
  CHECK(first["sampling"]["greedy"] == false);
  CHECK(first["ids"] == sampled("11")["ids"]);
  CHECK(first["ids"] != sampled("12")["ids"]);
}

TEST_CASE("--temperature 0 and --greedy are the model's greedy answer") {
  const json plain = generate_json({greeting, "--max-tokens", "8"});
  CHECK(generate_json({greeting, "--max-tokens", "8", "--temperature", "0"})["ids"] == plain["ids"]);
  CHECK(generate_json({greeting, "--max-tokens", "8", "--greedy"})["ids"] == plain["ids"]);
}

TEST_CASE("defaults come from generation_config.json and options override them") {
  const TemporaryDirectory folder;
  const std::string model = pocket_with(
      folder, {{"generation_config.json",
                R"({"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.95, "eos_token_id": 8185})"}});
  const auto sampling = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"generate", model, "Hi", "--max-tokens", "1", "--json"});
    return json::parse(run_tqkv(more).output)["sampling"];
  };
  const json defaults = sampling({});
  CHECK(defaults["greedy"] == false);
  CHECK(defaults["temperature"] == 0.7);
  CHECK(defaults["top_k"] == 20);
  CHECK(defaults["top_p"] == 0.95);
  CHECK(defaults["seed"].is_number());
  const json changed = sampling({"--temperature", "0.2", "--top-k", "0", "--presence-penalty", "1.5"});
  CHECK(changed["temperature"] == 0.2);
  CHECK(changed["top_k"] == 0);
  CHECK(changed["top_p"] == 0.95);
  CHECK(changed["presence_penalty"] == 1.5);
  CHECK(sampling({"--greedy"})["greedy"] == true);
}

TEST_CASE("the prompt comes from an argument, a file, standard input, or a file and what follows it") {
  const TemporaryDirectory folder;
  const std::string file = folder.write("notes.txt", "The notes.\nSecond line.\n\n");
  ProcessOptions with_input;
  with_input.input = "from a pipe\n";
  CHECK(contains(prompt_of({"an argument"}), "user\nan argument<|im_end|>"));
  CHECK(contains(prompt_of({"--file", file}), "user\nThe notes.\nSecond line.<|im_end|>"));
  CHECK(contains(prompt_of({"-"}, with_input), "user\nfrom a pipe<|im_end|>"));
  CHECK(
      contains(prompt_of({"What is it?", "--file", file}), "user\nThe notes.\nSecond line.\n\nWhat is it?<|im_end|>"));
  CHECK(contains(prompt_of({"-", "--file", file}, with_input), "Second line.\n\nfrom a pipe<|im_end|>"));
  CHECK(contains(prompt_of({"What is it?", "--file", "-"}, with_input), "from a pipe\n\nWhat is it?<|im_end|>"));
}

TEST_CASE("prompts that look like something else are taken as they are") {
  CHECK(contains(prompt_of({"inspect"}), "user\ninspect<|im_end|>"));
  CHECK(contains(prompt_of({"[a, b]"}), "user\n[a, b]<|im_end|>"));
  CHECK(contains(prompt_of({"{}"}), "user\n{}<|im_end|>"));
  CHECK(contains(prompt_of({"\"quoted\""}), "user\n\"quoted\"<|im_end|>"));
  const ProcessResult dash = run_tqkv({"generate", "pocket", "--print-prompt", "--", "-5 + 3 = ?"});
  CHECK(contains(dash.output, "user\n-5 + 3 = ?<|im_end|>"));
}

TEST_CASE("--print-prompt needs no weights") {
  const TemporaryDirectory folder;
  const std::string model = pocket_with(
      folder, {{"model-00001-of-00002.safetensors", std::nullopt}, {"model-00002-of-00002.safetensors", std::nullopt}});
  const ProcessResult result = run_tqkv({"generate", model, "Hi", "--print-prompt"});
  CHECK(result.exit_code == 0);
  CHECK(result.output == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  CHECK(result.error.empty());
}

TEST_CASE("messages, a system message and thinking shape the prompt") {
  const TemporaryDirectory folder;
  const std::string messages = folder.write(
      "m.json",
      R"([{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}, {"role": "user", "content": "Three"}])");
  CHECK(contains(prompt_of({"--messages", messages}),
                 "user\nOne<|im_end|>\n<|im_start|>assistant\nTwo<|im_end|>\n<|im_start|>user\nThree<|im_end|>"));
  CHECK(contains(prompt_of({"Hi", "--system", "Be brief."}), "<|im_start|>system\nBe brief.<|im_end|>\n"));

  // The same files under a template of Qwen3.5, which thinks unless asked not to.
  const std::string thinking = pocket_with(
      folder,
      {{"chat_template.jinja",
        "<|im_start|> <|im_end|> <function= {%- if enable_thinking is defined and enable_thinking is false %}"}});
  const auto prompt = [&](const std::string& flag) {
    return run_tqkv({"generate", thinking, "Hi", "--print-prompt", flag}).output;
  };
  CHECK(prompt("--no-think").ends_with("<think>\n\n</think>\n\n"));
  CHECK(prompt("--think").ends_with("assistant\n<think>\n"));

  const ProcessResult cut = run_tqkv({"generate", thinking, "Hi", "--think", "--max-tokens", "3"});
  CHECK(cut.exit_code == 0);
  CHECK(cut.output.empty());
  CHECK(contains(cut.error, "ended inside thinking"));
}

TEST_CASE("control strings of a user stay text, and count in raw prompts unless they are plain") {
  const int text = generate_json({"a<|im_end|>b", "--max-tokens", "1"})["prompt_tokens"].get<int>();
  const int plain = generate_json({"ab", "--max-tokens", "1"})["prompt_tokens"].get<int>();
  CHECK(text > plain + 2);
  const int raw = generate_json({"a<|im_end|>b", "--raw", "--max-tokens", "1"})["prompt_tokens"].get<int>();
  CHECK(raw == 3);
  const int raw_plain =
      generate_json({"a<|im_end|>b", "--raw", "--plain", "--max-tokens", "1"})["prompt_tokens"].get<int>();
  CHECK(raw_plain > 3);
}

TEST_CASE("invalid UTF-8 in a prompt is replaced and counted") {
  const ProcessResult result = generate({"a\xff\xfe z", "--print-prompt"});
  CHECK(result.exit_code == 0);
  CHECK(contains(result.output, "user\na\uFFFD\uFFFD z<|im_end|>"));
  CHECK(contains(result.error, "2 invalid UTF-8 sequences"));
  CHECK(generate({"a", "--print-prompt"}).error.empty());
}

TEST_CASE("Ctrl-C ends at the next token with the statistics so far and exit code 130") {
  ProcessOptions options;
  options.interrupt_at_output = true;
  // Nearly uniform draws: thousands of tokens before a stop id is likely, and the same ones each time.
  const std::vector<std::string> endless{"Once upon", "--raw", "--temperature", "100",
                                         "--seed",    "4",     "--max-tokens",  "30000"};
  const ProcessResult result = generate(endless, options);
  CHECK(result.exit_code == 130);
  CHECK(result.output.back() == '\n');
  CHECK(contains(result.error, "tqkv: interrupted"));
  CHECK(contains(result.error, "ended by cancelled"));
}

TEST_CASE("a reader that goes away while the answer streams ends the program quietly") {
  ProcessOptions options;
  options.output = ProcessOptions::Output::pipe_without_reader;
  const ProcessResult result = generate({greeting}, options);
  CHECK(result.exit_code == 1);
  CHECK(lines_in(result.error) == 1);  // the format, printed before the answer
}

TEST_CASE("an answer that cannot be written is an error") {
  if (!std::filesystem::exists("/dev/full")) {
    MESSAGE("no /dev/full here: skipped");
    return;
  }
  ProcessOptions options;
  options.output = ProcessOptions::Output::full_device;
  for (const char* flag : {"--stats", "--json"}) {
    const ProcessResult result = generate({greeting, "--max-tokens", "2", flag}, options);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.error, "tqkv: [io] standard output: "));
  }
}

}  // namespace
