// What a terminal gets to see of text that it would obey.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "model_folder.h"
#include "support/process.h"
#include "terminal.h"

namespace {

using namespace tqkv::test;

const std::string hostile = "\x1b[31m\u009b2J\u202e\x7f";
const std::string shown = "\\x1b[31m\\u009b2J\\u202e\\x7f";

std::string on_terminal(const std::vector<std::string>& arguments, int exit_code) {
  const TemporaryDirectory state;
  Terminal terminal(state.path(), arguments);
  CHECK(terminal.exit_code() == exit_code);
  return terminal.screen();
}

}  // namespace

TEST_CASE("text with control characters is shown escaped on a terminal, and a pipe gets its bytes") {
  const TemporaryDirectory folder;
  const std::string file = folder.write("text", "a" + hostile + "\n\tb 日本 e\u0301\xff");
  const std::string screen = on_terminal({"generate", "pocket", "--print-prompt", "--raw", "--file", file}, 0);
  CHECK(contains(screen, "a" + shown + "\r\n"));
  CHECK(contains(screen, "b 日本 e\u0301\uFFFD"));
  CHECK(run_tqkv({"generate", "pocket", "--print-prompt", "--raw", "--file", file}).output ==
        "a" + hostile + "\n\tb 日本 e\u0301\uFFFD");
}

TEST_CASE("an answer with an escape character is shown escaped on a terminal, and a pipe gets its bytes") {
  const TemporaryDirectory folder;
  nlohmann::json tokenizer = nlohmann::json::parse(pocket_text("tokenizer.json"));
  nlohmann::json& vocabulary = tokenizer["model"]["vocab"];
  std::swap(vocabulary["\u011b"], vocabulary["\u0120model"]);  // the byte 0x1b and " model", as BPE writes them
  const std::vector<std::string> ask{"generate",
                                     pocket_with(folder, {{"tokenizer.json", tokenizer.dump()}}),
                                     "Hi, what can you help me with?",
                                     "--greedy",
                                     "--max-tokens",
                                     "12"};
  const std::string piped = run_tqkv(ask).output;
  REQUIRE(contains(piped, "I am a pocket-sized\x1b"));
  const std::string screen = on_terminal(ask, 0);
  CHECK(contains(screen, "I am a pocket-sized\\x1b"));
  CHECK(screen.find("sized\x1b") == std::string::npos);
}

TEST_CASE("names of files, keys and models cannot command a terminal from an error, a table or a note") {
  const TemporaryDirectory folder;
  const auto harmless = [](const std::string& screen) {
    CAPTURE(screen);
    CHECK(contains(screen, shown));
    CHECK(screen.find('\x1b') == std::string::npos);
    CHECK(screen.find("\u009b") == std::string::npos);
    CHECK(screen.find("\u202e") == std::string::npos);
  };
  harmless(on_terminal({"generate", "pocket", "--file", "/no/such/" + hostile}, 1));
  harmless(on_terminal({"generate", "pocket", "--backend", hostile, "Hi"}, 2));
  harmless(on_terminal({"chat", "pocket", hostile}, 2));
  const std::string model =
      pocket_with(folder, {{"config.json", replaced(pocket_text("config.json"), "\"model_type\": \"",
                                                    "\"model_type\": \"\\u001b[31m\\u009b2J\\u202e\\u007f")}});
  harmless(on_terminal({"inspect", model}, 1));
  std::filesystem::create_directory_symlink(pocket_folder, folder.path() / hostile);
  harmless(on_terminal({"inspect", (folder.path() / hostile).string()}, 0));
  // An error is one line wherever it goes.
  const ProcessResult piped = run_tqkv({"generate", "pocket", "--file", "/no/such\n/" + hostile});
  CHECK(lines_in(piped.error) == 1);
  CHECK(contains(piped.error, shown));
}
