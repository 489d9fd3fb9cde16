// tqkv chat as a person has it, at a terminal, and behind a pipe.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "model_folder.h"
#include "support/places.h"
#include "support/process.h"
#include "terminal.h"

namespace {

using namespace tqkv::test;
using tqkv::read_text;

ProcessResult chat(const std::string& input, std::vector<std::string> arguments = {}) {
  arguments.insert(arguments.begin(), {"chat", "pocket", "--max-tokens", "12", "--greedy"});
  ProcessOptions options;
  options.input = input;
  return run_tqkv(arguments, options);
}

}  // namespace

TEST_CASE("behind a pipe every line is a turn, and only answers go to standard output") {
  const ProcessResult result = chat("Hi, what can you help me with?\n\nWhat is std::vector?\n");
  CHECK(result.exit_code == 0);
  CHECK(lines_in(result.output) == 2);
  CHECK(result.output.starts_with("I am a pocket-sized model"));
  CHECK(contains(result.error, "turboquant:k=5:v=3:values=trellis"));
  CHECK(result.output.find("> ") == std::string::npos);
}

TEST_CASE("a turn that was taken back is forgotten, and a text of several lines is one turn") {
  const std::string question = "\"\"\"What is\nstd::vector?\"\"\"\n";
  const ProcessResult straight = chat(question), back = chat("Hi\n/undo\nHi \\\nthere\n/undo\n" + question);
  CHECK(back.exit_code == 0);
  CHECK(back.output.ends_with("\n" + straight.output));
  CHECK(contains(back.error, "took back"));
}

TEST_CASE("commands of a chat say what they did, and a wrong one ends nothing but fails the pipe") {
  const TemporaryDirectory folder;
  const std::string file = (folder.path() / "talk.session").string();
  const ProcessResult result = chat("/undo\n/nonsense\n/load " + file + "\n/save " + file + "\nHi\n/save " + file +
                                    "\n/backend nonsense\n/backend trellis:bits=3\n/system Be brief.\n/stats\n/load " +
                                    file + "\n/system No\n/undo\n/reset\n/help\nHi\n/quit\nHi\n");
  CAPTURE(result.error);
  CHECK(result.exit_code == 1);
  CHECK(lines_in(result.output) == 2);
  for (const char* part :
       {"nothing to undo", "there is no command /nonsense", "talk.session: ", "nothing was said yet", "tokens saved",
        "nonsense", "computing ", "trellis:k=3:v=3", "the system message is set", "1 question, ", "for /undo",
        "tokens restored", "the conversation was loaded", "a new conversation", "/backend FORMAT"})
    CHECK_MESSAGE(contains(result.error, part), part);
}

TEST_CASE("behind a pipe one command or turn that fails is an exit code of 1, and the others are done") {
  CHECK(chat("Hi\n/undo\n").exit_code == 0);
  for (const std::string command :
       {"/undo", "/nonsense", "/save", "/load", "/load /no/such/file", "/backend nonsense"}) {
    CAPTURE(command);
    const ProcessResult result = chat(command + "\nHi\n");
    CHECK(result.exit_code == 1);
    CHECK(lines_in(result.output) == 1);
    CHECK(lines_in(result.error) == 3);  // the format, the fault, what ended the answer
    CHECK(contains(result.error, "\ntqkv: ["));
  }
  CHECK(chat("/undo\n/quit\n").exit_code == 1);
  const ProcessResult turn = chat("What is std::vector?\n", {"--context", "4"});
  CHECK(turn.exit_code == 1);
  CHECK(turn.output.empty());
}

TEST_CASE("a pipe that ends inside a text of several lines asks nothing and says so") {
  for (const std::string text : {"\"\"\"What is\nstd::vector?\n", "What is \\", "What is \\\n"}) {
    CAPTURE(text);
    const ProcessResult result = chat(text);
    CHECK(result.exit_code == 1);
    CHECK(result.output.empty());
    CHECK(contains(result.error, "tqkv: [input] standard input: it ends inside a text of several lines"));
  }
}

TEST_CASE("behind a pipe a byte order mark is no text, and bytes that are not UTF-8 are named with their line") {
  const std::string greeting = "Hi, what can you help me with?\r\n";
  const ProcessResult plain = chat(greeting), marked = chat("\xef\xbb\xbf" + greeting);
  CHECK(marked.output == plain.output);
  const ProcessResult latin = chat("Hi\nGr\xfc\xdf\n");
  CHECK(latin.exit_code == 0);
  CHECK(contains(latin.error, "warning: standard input: line 2, column 3: byte 0xfc is invalid UTF-8"));
}

TEST_CASE("Ctrl-C in an answer ends a chat in a pipe with exit code 130") {
  ProcessOptions options;
  options.input = "What is std::vector?\nWhat is std::map?\n";
  options.interrupt_at_output = true;
  const ProcessResult result = run_tqkv({"chat", "pocket", "--max-tokens", "1000"}, options);
  CAPTURE(result.error);
  CHECK(result.exit_code == 130);
  CHECK(contains(result.error, "interrupted"));
}

TEST_CASE("a folder as the input of a chat is an error") {
  const TemporaryDirectory folder;
  const ProcessResult result =
      run({"/bin/sh", "-c", "exec \"$0\" chat pocket < \"$1\"", test::program(), folder.path().string()});
  CHECK(result.exit_code == 1);
  CHECK(contains(result.error, "tqkv: [io] standard input: cannot be read: "));
}

TEST_CASE("a conversation that was saved goes on where it was") {
  const TemporaryDirectory folder;
  const std::string file = (folder.path() / "talk.session").string();
  const ProcessResult whole = chat("What is std::vector?\nWhy?\n");
  CHECK(chat("What is std::vector?\n/save " + file + "\n").exit_code == 0);
  const ProcessResult rest = chat("Why?\n", {"--session", file});
  CHECK(rest.exit_code == 0);
  CHECK(whole.output.ends_with(rest.output));
}

TEST_CASE("at a terminal lines are edited and remembered, Ctrl-C gives up a line or an answer, Ctrl-D ends") {
  const TemporaryDirectory state;
  Terminal terminal(state.path(), {"chat", "pocket", "--greedy", "--max-tokens", "4000", "--context", "8192"});
  REQUIRE(terminal.wait_for_prompt());
  terminal.type("Hi, whaXt can you help me with?");
  for (int i = 0; i < 23; ++i) terminal.type("\x02");  // back to behind the X
  terminal.type("\x7f\r");
  CHECK(terminal.wait_for("I am a pocket-sized model"));
  REQUIRE(terminal.wait_for_prompt());
  terminal.type("never mind\x03");
  REQUIRE(terminal.wait_for_prompt());
  terminal.type("\x1b[A");  // the question again
  CHECK(terminal.wait_for("Hi, what can you help me with?"));
  terminal.type("\x15/undo\r");
  CHECK(terminal.wait_for("took back"));
  REQUIRE(terminal.wait_for_prompt());
  terminal.type("What is std::vector?\r");
  REQUIRE(terminal.wait_for("vector` "));
  terminal.type("\x03");
  REQUIRE(terminal.wait_for_prompt());
  terminal.type("\x04");
  CHECK(terminal.exit_code() == 0);
  CAPTURE(terminal.screen());
  CHECK(terminal.screen().find("[internal]") == std::string::npos);
}

TEST_CASE("what was entered at a terminal is recalled by the next run, several lines as one text") {
  const TemporaryDirectory state;
  const std::filesystem::path file = state / "tqkv" / "history";
  const auto talk = [&](const std::vector<std::string>& more, const std::vector<std::string>& keys) {
    std::vector<std::string> arguments{"chat", "pocket", "--greedy", "--max-tokens", "3"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    Terminal terminal(state.path(), arguments);
    for (const std::string& text : keys) {
      REQUIRE(terminal.wait_for_prompt());
      terminal.type(text + "\r");
      if (text.ends_with('\\')) {
        REQUIRE(terminal.wait_for_prompt(". "));
        terminal.type("there\r");
      }
      // The editor draws its prompt again where a text is recalled: the next one comes behind what was answered.
      REQUIRE(terminal.wait_for(text == "/undo" ? "took back" : "stopped after"));
    }
    REQUIRE(terminal.wait_for_prompt());
    terminal.type("\x04");
    CHECK(terminal.exit_code() == 0);
    return terminal.screen();
  };
  talk({}, {"What is a\\b?", "Hi \\"});
  CHECK(read_text(file) == "What is a\\\\b?\nHi \\nthere\n");
  CHECK((std::filesystem::status(file).permissions() & std::filesystem::perms::all) ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
  const std::string up = "\x1b[A";
  CHECK(contains(talk({}, {up + up, "/undo"}), "What is a\\b?"));
  CHECK(read_text(file) == "What is a\\\\b?\nHi \\nthere\nWhat is a\\\\b?\n/undo\n");
  talk({}, {up + up + up});
  CHECK(read_text(file).ends_with("/undo\nHi \\nthere\n"));

  const std::string before = read_text(file);
  CHECK(talk({"--no-history"}, {up + "Why?"}).find("there") == std::string::npos);
  CHECK(read_text(file) == before);
}

TEST_CASE("a history that has grown long is cut to its newest texts, and one that cannot be kept is silently none") {
  const TemporaryDirectory state;
  std::string lines;
  for (int i = 0; i < 2000; ++i) lines += "text " + std::to_string(i) + "\n";
  const std::string file = state.write("tqkv/history", lines);
  const auto quit = [](const std::filesystem::path& folder) {
    Terminal terminal(folder, {"chat", "pocket"});
    REQUIRE(terminal.wait_for_prompt());
    terminal.type("/quit\r");
    CHECK(terminal.exit_code() == 0);
    CHECK(terminal.screen().find("history") == std::string::npos);
  };
  quit(state.path());
  CHECK(read_text(file).starts_with("text 1000\ntext 1001\n"));
  CHECK(read_text(file).ends_with("text 1999\n/quit\n"));
  quit(file);  // a file where a folder should be
  state.write("other/tqkv/history/a", "a folder where a file should be");
  quit(state / "other");
}

TEST_CASE("options of a chat that contradict each other are usage errors") {
  CHECK(run_tqkv({"chat", "pocket", "--think", "--no-think"}).exit_code == 2);
  const ProcessResult thinks = run_tqkv({"chat", "pocket", "--think"});
  CHECK(thinks.exit_code == 1);
  CHECK(contains(thinks.error, "does not think"));
}
