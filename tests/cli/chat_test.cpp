// tqkv chat as a person has it, at a terminal, and behind a pipe.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <util.h>
#else
#include <pty.h>
#endif

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "model_folder.h"
#include "support/process.h"
#include "support/sanitized.h"

namespace {

using namespace tqkv::test;
using tqkv::read_text;

/// The program at a terminal of 100 columns, with its history in the folder `state`.
class Terminal {
 public:
  Terminal(const std::filesystem::path& state, std::vector<std::string> arguments) {
    winsize size{24, 100, 0, 0};
    process_ = ::forkpty(&descriptor_, nullptr, nullptr, &size);
    REQUIRE(process_ >= 0);
    if (process_ != 0) return;
    ::setenv("TERM", "xterm", 1);
    ::setenv("XDG_STATE_HOME", state.c_str(), 1);
    arguments.insert(arguments.begin(), TQKV_PROGRAM);
    std::vector<char*> words;
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    ::execv(TQKV_PROGRAM, words.data());
    ::_exit(127);
  }
  ~Terminal() {
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      ::waitpid(process_, nullptr, 0);
    }
    ::close(descriptor_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(const std::string& text) { REQUIRE(::write(descriptor_, text.data(), text.size()) > 0); }

  /// Reads until `text` has come after what was waited for before.
  bool wait_for(const std::string& text) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(sanitized ? 120 : 30);
    while (true) {
      if (const std::size_t found = screen_.find(text, seen_); found != std::string::npos) {
        seen_ = found + text.size();
        return true;
      }
      pollfd ready{descriptor_, POLLIN, 0};
      if (std::chrono::steady_clock::now() > end) return false;
      if (::poll(&ready, 1, 200) <= 0) continue;
      char buffer[4096];
      const ssize_t got = ::read(descriptor_, buffer, sizeof buffer);
      if (got <= 0) return screen_.find(text, seen_) != std::string::npos;
      screen_.append(buffer, static_cast<std::size_t>(got));
    }
  }

  /// Waits for the prompt and until the program has taken over from the terminal's own line editing, which follows.
  bool wait_for_prompt(const std::string& prompt = "> ") {
    if (!wait_for(prompt)) return false;
    for (int i = 0; i < 3000; ++i) {
      termios settings{};
      if (::tcgetattr(descriptor_, &settings) == 0 && (settings.c_lflag & ICANON) == 0) return true;
      ::usleep(10'000);
    }
    return false;
  }

  int exit_code() {
    int status = 0;
    wait_for("\x01never");  // to the end of the output
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    pid_t ended = 0;
    while ((ended = ::waitpid(process_, &status, WNOHANG)) == 0 && std::chrono::steady_clock::now() < end)
      ::poll(nullptr, 0, 5);
    REQUIRE(ended == process_);
    process_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  const std::string& screen() const { return screen_; }

 private:
  int descriptor_ = -1;
  pid_t process_ = -1;
  std::string screen_;
  std::size_t seen_ = 0;
};

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
  CHECK(contains(result.error, "turboquant:k=4:v=4"));
  CHECK(result.output.find("> ") == std::string::npos);
}

TEST_CASE("a turn that was taken back is forgotten, and a text of several lines is one turn") {
  const std::string question = "\"\"\"What is\nstd::vector?\"\"\"\n";
  const ProcessResult straight = chat(question), back = chat("Hi\n/undo\nHi \\\nthere\n/undo\n" + question);
  CHECK(back.exit_code == 0);
  CHECK(back.output.ends_with("\n" + straight.output));
  CHECK(contains(back.error, "took back"));
}

TEST_CASE("commands of a chat say what they did, and a wrong one ends nothing") {
  const TemporaryDirectory folder;
  const std::string file = (folder.path() / "talk.session").string();
  const ProcessResult result = chat("/undo\n/nonsense\n/load " + file + "\n/save " + file + "\nHi\n/save " + file +
                                    "\n/backend nonsense\n/backend trellis:bits=3\n/system Be brief.\n/stats\n/load " +
                                    file + "\n/system No\n/undo\n/reset\n/help\nHi\n/quit\nHi\n");
  CAPTURE(result.error);
  CHECK(result.exit_code == 0);
  CHECK(lines_in(result.output) == 2);
  for (const char* part :
       {"nothing to take back", "there is no command /nonsense", "talk.session: ", "nothing was said yet",
        "tokens saved", "nonsense", "computing ", "trellis:k=3:v=3", "the system message is set", "1 question, ",
        "for /undo", "tokens restored", "the conversation was loaded", "a new conversation", "/backend FORMAT"})
    CHECK_MESSAGE(contains(result.error, part), part);
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
  CHECK(terminal.screen().find("internal") == std::string::npos);
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
