// Sessions on disk as users have them: a long text once for many questions, a conversation that goes on. Where ids are
// those of another division into chunks, in f32: the fast path rounds a long chunk and a short one apart.
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "model_folder.h"
#include "support/process.h"
#include "support/sanitized.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;
using nlohmann::json;

ProcessResult generate(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"generate", "pocket"});
  return run_tqkv(arguments);
}

json generate_json(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  const ProcessResult result = generate(std::move(arguments));
  CAPTURE(result.error);
  REQUIRE(result.exit_code == 0);
  return json::parse(result.output);
}

void prefill(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"prefill", "pocket"});
  const ProcessResult result = run_tqkv(arguments);
  CAPTURE(result.error);
  REQUIRE(result.exit_code == 0);
  CHECK(result.output.empty());
  CHECK(contains(result.error, "tokens saved"));
}

void check_refusal(const ProcessResult& result, int exit_code, const std::string& kind,
                   const std::vector<std::string>& parts) {
  CAPTURE(result.error);
  CHECK(result.exit_code == exit_code);
  CHECK(result.output.empty());
  CHECK(result.error.rfind("tqkv: [" + kind + "] ", 0) == 0);
  CHECK(lines_in(result.error) == 1);
  for (const std::string& part : parts) CHECK(contains(result.error, part));
}

std::string long_text() {
  std::string text;
  for (int i = 0; i < 12; ++i)
    text += "The secret code of Ada is 4711. A page holds 256 tokens, and pages never move.\n";
  return text;
}

const std::string question = "What is the secret code of Ada?";

TEST_CASE("a text that was prefilled once answers many questions as if it stood before each") {
  const TemporaryDirectory folder;
  const std::string text = folder.write("long.txt", long_text()), session = (folder / "s").string();
  prefill({"--file", text, "--precision", "f32", "--save-session", session});
  for (const std::string& asked : {question, std::string("How many tokens does a page hold?")}) {
    const json whole = generate_json({asked, "--file", text, "--max-tokens", "12", "--precision", "f32"});
    const json restored = generate_json({asked, "--session", session, "--max-tokens", "12"});
    CHECK(restored["restored_tokens"].get<int>() + restored["prompt_tokens"].get<int>() ==
          whole["prompt_tokens"].get<int>());
    CHECK(restored["prompt_tokens"].get<int>() < 30);  // the text is not computed again
    CHECK(restored["ids"] == whole["ids"]);
    CHECK(restored["cache"]["tokens"] == whole["cache"]["tokens"]);
  }
}

TEST_CASE("a text that was stored goes on with more text, and what is asked has the ids of the whole" *
          doctest::skip(tqkv::test::sanitized)) {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string(), longer = (folder / "longer").string();
  const std::string text = long_text(), more = "The secret code of Bob is 1234.";
  const std::string first = text.substr(0, text.size() - 1);  // without its last line break, like a file
  const auto asks = [&](const std::string& stored, const std::string& before) {
    const json whole = generate_json({before + question, "--max-tokens", "12", "--precision", "f32"});
    const json restored = generate_json({question, "--session", stored, "--max-tokens", "12"});
    CHECK(restored["prompt_tokens"].get<int>() < 30);
    CHECK(restored["cache"]["tokens"] == whole["cache"]["tokens"]);
    CHECK(restored["ids"] == whole["ids"]);
  };
  prefill({first, "--precision", "f32", "--save-session", session});
  prefill({more, "--session", session, "--save-session", longer});
  asks(longer, first + "\n\n" + more + "\n\n");
  prefill({more, "--session", longer, "--save-session", longer});
  asks(longer, first + "\n\n" + more + "\n\n" + more + "\n\n");

  // Behind an answer it is the next turn, which is not ended; raw it continues the text.
  generate_json({question, "--max-tokens", "3", "--save-session", session});
  prefill({more, "--session", session, "--save-session", longer});
  const std::string prompt = generate({"Why?", "--session", longer, "--print-prompt"}).output;
  CHECK(prompt.starts_with("Why?<|im_end|>\n"));
  prefill({"Once upon", "--raw", "--precision", "f32", "--save-session", session});
  prefill({" a time", "--session", session, "--save-session", longer});
  CHECK(generate_json({"--session", longer, "--max-tokens", "8"})["ids"] ==
        generate_json({"Once upon a time", "--raw", "--max-tokens", "8", "--precision", "f32"})["ids"]);

  check_refusal(run_tqkv({"prefill", "pocket", "Hi", "--session", session, "--system", "x", "--save-session", longer}),
                2, "usage", {"tqkv prefill", "--system"});
  check_refusal(run_tqkv({"prefill", "pocket", "--session", session, "--save-session", longer}), 2, "usage",
                {"a prompt is needed"});
  check_refusal(
      run_tqkv({"prefill", "pocket", "Hi", "--session", session, "--backend", "trellis", "--save-session", longer}), 1,
      "session", {"trellis"});
}

TEST_CASE("a conversation goes on with the turns of --messages, and none is computed again") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string();
  const json first =
      generate_json({question, "--system", "Be brief.", "--precision", "f32", "--save-session", session});
  REQUIRE(first["finish_reason"] == "stop");
  const json second = generate_json({"And again?", "--session", session, "--max-tokens", "20"});
  CHECK(second["restored_tokens"] == first["cache"]["tokens"]);
  const json messages = {{{"role", "system"}, {"content", "Be brief."}},
                         {{"role", "user"}, {"content", question}},
                         {{"role", "assistant"}, {"content", first["answer"]}},
                         {{"role", "user"}, {"content", "And again?"}}};
  const json whole = generate_json(
      {"--messages", folder.write("m.json", messages.dump()), "--max-tokens", "20", "--precision", "f32"});
  // The template writes no think block before an answer that is past; the session has the one it was asked with.
  CHECK(second["restored_tokens"].get<int>() + second["prompt_tokens"].get<int>() >= whole["prompt_tokens"].get<int>());
  CHECK_FALSE(second["ids"].empty());

  // A conversation that was stored as such has the very ids of one that is read at once.
  const std::string stored = (folder / "stored").string();
  json past = messages;
  past.erase(3);
  prefill({"--messages", folder.write("past.json", past.dump()), "--precision", "f32", "--save-session", stored});
  const json next = generate_json({"And again?", "--session", stored, "--max-tokens", "20"});
  CHECK(next["restored_tokens"].get<int>() + next["prompt_tokens"].get<int>() == whole["prompt_tokens"].get<int>());
  CHECK(next["ids"] == whole["ids"]);
}

TEST_CASE("an answer that was cut off is closed before the next turn") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string();
  generate_json({"Hi, what can you help me with?", "--max-tokens", "3", "--save-session", session});
  const auto prompt = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"Why?", "--session", session, "--print-prompt"});
    return generate(more).output;
  };
  const std::string turn = "\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
  CHECK(prompt({}) == "<|im_end|>" + turn);
  CHECK(prompt({"--raw"}) == "Why?");
  generate_json({"Hi, what can you help me with?", "--save-session", session});
  CHECK(prompt({}) == turn);
}

TEST_CASE("a raw session goes on in the middle of its text, with a prompt or without") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string();
  prefill({"Once upon a time", "--raw", "--save-session", session});
  const json whole = generate_json({"Once upon a time", "--raw", "--max-tokens", "10"});
  const json restored = generate_json({"--session", session, "--max-tokens", "10", "--save-session", session});
  CHECK(restored["ids"] == whole["ids"]);
  CHECK(restored["prompt_tokens"] == 0);
  // The last id was sampled and not fed: it is fed when the text goes on, and counts as new.
  const json more = generate_json({"--session", session, "--max-tokens", "5"});
  CHECK(more["prompt_tokens"] == 1);
  CHECK(more["ids"] != whole["ids"]);
  const json long_run = generate_json({"Once upon a time", "--raw", "--max-tokens", "15"});
  CHECK(std::vector<int>(long_run["ids"].begin() + 10, long_run["ids"].end()) == more["ids"].get<std::vector<int>>());
  CHECK(generate_json({" there was", "--session", session, "--max-tokens", "1"})["prompt_tokens"].get<int>() > 1);
}

TEST_CASE("a session is saved all the same when nobody reads the answer to its end") {
  const TemporaryDirectory folder;
  const std::string whole = (folder / "whole").string(), cut = (folder / "cut").string();
  REQUIRE(generate({question, "--save-session", whole}).exit_code == 0);
  ProcessOptions options;
  for (const auto output : {ProcessOptions::Output::pipe_without_reader, ProcessOptions::Output::full_device}) {
    options.output = output;
    for (const char* flag : {"--greedy", "--json"}) {
      CAPTURE(flag);
      const ProcessResult result = run_tqkv({"generate", "pocket", question, flag, "--save-session", cut}, options);
      CAPTURE(result.error);
      CHECK(result.exit_code == 1);
      CHECK(contains(result.error, "tokens saved"));
      CHECK((result.error.find("standard output: cannot be written") != std::string::npos) ==
            (output == ProcessOptions::Output::full_device));
      CHECK(read_text(cut) == read_text(whole));
      std::filesystem::remove(cut);
    }
  }
}

TEST_CASE("a saved session is for its owner alone, and one that is written again keeps its permissions and its link") {
  namespace fs = std::filesystem;
  const TemporaryDirectory folder;
  const auto mode = [&](const char* name) { return static_cast<unsigned>(fs::status(folder / name).permissions()); };
  prefill({"Hi", "--save-session", (folder / "s").string()});
  CHECK(mode("s") == 0600);
  generate_json({"Hi", "--max-tokens", "2", "--save-session", (folder / "answer").string()});
  CHECK(mode("answer") == 0600);
  ProcessOptions chat;
  chat.input = "Hi\n/save " + (folder / "chat").string() + "\n";
  CHECK(run_tqkv({"chat", "pocket", "--max-tokens", "2"}, chat).exit_code == 0);
  CHECK(mode("chat") == 0600);
  fs::permissions(folder / "s", fs::perms(0640));
  prefill({"Hi", "--save-session", (folder / "s").string()});
  CHECK(mode("s") == 0640);
  fs::create_symlink("target", folder / "link");
  prefill({"Hi", "--save-session", (folder / "link").string()});
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(mode("target") == 0600);
}

TEST_CASE("format, precision and state come from the session, and other ones are refused") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string();
  prefill({"Some text.", "--backend", "trellis:bits=3.5:window=20", "--precision", "f32", "--state", "bf16",
           "--save-session", session});
  const json object = generate_json({"Hi", "--session", session, "--max-tokens", "1"});
  CHECK(object["backend"] == "trellis");
  CHECK(object["device"]["precision"] == "f32");
  CHECK(object["cache"]["state_type"] == "bf16");
  CHECK(generate({"Hi", "--session", session, "--max-tokens", "1", "--backend", "trellis:bits=3.5:window=20",
                  "--precision", "f32"})
            .exit_code == 0);
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"Hi", "--session", session});
    return generate(more);
  };
  check_refusal(with({"--backend", "turboquant"}), 1, "session", {session, "trellis:k=4:v=3", "turboquant:k=4:v=4"});
  check_refusal(with({"--backend", "trellis:bits=3.5"}), 1, "session", {"window=20"});
  check_refusal(with({"--kv-seed", "1"}), 1, "session", {"seed=1"});
  check_refusal(with({"--precision", "fast"}), 1, "session", {"f32", "fast"});
  check_refusal(with({"--state", "f32"}), 1, "session", {"bf16", "f32"});
}

TEST_CASE("another instruction set is told") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string();
  prefill({"Some text.", "--isa", "portable", "--save-session", session});
  const ProcessResult result = generate({"Hi", "--session", session, "--max-tokens", "1"});
  CHECK(result.exit_code == 0);
  const json plain = generate_json({"Hi", "--max-tokens", "1"});
  if (!contains(plain["device"]["device"].get<std::string>(), "portable"))
    CHECK(contains(result.error, "computed on cpu:isa=portable and continue on cpu:isa="));
}

TEST_CASE("options that a session has no place for are usage errors, and files that cannot be restored fail") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string(), raw = (folder / "raw").string();
  prefill({"Some text.", "--save-session", session});
  prefill({"Some text.", "--raw", "--save-session", raw});
  check_refusal(generate({"Hi", "--session", session, "--system", "x"}), 2, "usage", {"--system"});
  check_refusal(generate({"--messages", "m.json", "--session", session}), 2, "usage", {"--messages"});
  check_refusal(generate({"--session", session}), 2, "usage", {"a prompt is needed"});
  check_refusal(generate({"Hi", "--session", raw, "--think"}), 2, "usage", {"raw", "--think"});
  check_refusal(run_tqkv({"prefill", "pocket", "Hi"}), 2, "usage", {"--save-session"});
  check_refusal(run_tqkv({"prefill", "pocket", "--save-session", session}), 2, "usage", {"a prompt is needed"});
  check_refusal(generate({"Hi", "--session", (folder / "none").string()}), 1, "io", {"none", "cannot be opened"});
  check_refusal(generate({"Hi", "--session", folder.write("text", "Some text, no session.")}), 1, "session", {"text"});
  const std::string newer = folder.write("newer", replaced(read_text(session), R"("version":"2")", R"("version":"3")"));
  check_refusal(generate({"Hi", "--session", newer}), 1, "session", {"newer", "version 3", "reads up to 2"});
  check_refusal(generate({"Hi", "--session", session, "--context", "4"}), 1, "input", {"--context is 4"});
  check_refusal(generate({"Hi", "--save-session", folder.path().string()}), 1, "io", {"directory"});

  const std::string other =
      pocket_with(folder, {{"config.json", replaced(pocket_text("config.json"), "\"max_position_embeddings\": 32768",
                                                    "\"max_position_embeddings\": 4096")}});
  check_refusal(run_tqkv({"generate", other, "Hi", "--session", session}), 1, "session", {"another model"});
}

TEST_CASE("an answer that was interrupted is saved as far as it came") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string();
  ProcessOptions options;
  options.interrupt_at_output = true;
  const ProcessResult result = run_tqkv({"generate", "pocket", "Once upon", "--raw", "--temperature", "100", "--seed",
                                         "4", "--max-tokens", "30000", "--save-session", session},
                                        options);
  CHECK(result.exit_code == 130);
  CHECK(contains(result.error, "tokens saved"));
  CHECK(generate_json({"--session", session, "--max-tokens", "2"})["generated_tokens"] == 2);
}

TEST_CASE("a full disk leaves the older session as it was") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string();
  prefill({"Some text.", "--save-session", session});
  const std::string before = read_text(session);
  ProcessOptions full;
  full.largest_file = 100'000;
  const ProcessResult result = run_tqkv({"prefill", "pocket", "Other text.", "--save-session", session}, full);
  CHECK(result.exit_code == 1);
  CHECK(contains(result.error, "tqkv: [io] " + session + ": cannot be written: "));
  CHECK(read_text(session) == before);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("the memory plan counts the tokens of the session") {
  const TemporaryDirectory folder;
  const std::string text = folder.write("long.txt", long_text() + long_text()), session = (folder / "s").string();
  prefill({"--file", text, "--save-session", session});
  const json object = generate_json({question, "--session", session, "--max-tokens", "4"});
  const int restored = object["restored_tokens"].get<int>();
  CHECK(restored > 512);
  CHECK(object["cache"]["context"] == restored + object["prompt_tokens"].get<int>() + 3);
  const ProcessResult result = generate({question, "--session", session, "--max-tokens", "4", "--stats"});
  CHECK(contains(result.error, "restored    "));
}

}  // namespace
