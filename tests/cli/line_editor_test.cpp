// Text outside ASCII, pasted lines and terminals that cannot do much, at the line editor of tqkv chat.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "base/file.h"
#include "model_folder.h"
#include "support/process.h"
#include "terminal.h"

namespace {

using namespace tqkv::test;
using tqkv::read_text;

/// A chat whose answers are short.
class Chat : public Terminal {
 public:
  explicit Chat(const TemporaryDirectory& state, const Environment& environment = {})
      : Terminal(state.path(), {"chat", "pocket", "--greedy", "--max-tokens", "3"}, environment), state_(state) {
    for (const auto& [key, value] : environment) edits_ = edits_ && key != "TERM";
    REQUIRE(wait_for("Ctrl-D ends"));
  }
  /// Ends the line, waits for its answer and returns what was asked, as the history has it.
  std::string asked() {
    type("\r");
    REQUIRE(wait_for("stopped after"));
    const std::string history = read_text(state_ / "tqkv" / "history");
    const std::size_t last = history.rfind('\n', history.size() - 2);
    return history.substr(last == std::string::npos ? 0 : last + 1);
  }
  void end() {
    // A key that comes before the editor has taken over would be the kernel's.
    REQUIRE((edits_ ? wait_for_prompt() : wait_for("> ")));
    type("\x04");
    CHECK(exit_code() == 0);
  }

 private:
  const TemporaryDirectory& state_;
  bool edits_ = true;
};

}  // namespace

TEST_CASE("at a terminal a question may be in any language, whatever the locale says") {
  const TemporaryDirectory state;
  for (const std::string locale : {"C.UTF-8", "C", "POSIX", "de_DE.ISO-8859-1", "no such locale"}) {
    CAPTURE(locale);
    Chat chat(state, {{"LANG", locale}, {"LC_ALL", locale}});
    REQUIRE(chat.wait_for_prompt());
    chat.type("Grüße 日本語");
    CHECK(chat.wait_for("Grüße 日本語"));
    CHECK(chat.asked() == "Grüße 日本語\n");
    chat.end();
  }
}

TEST_CASE("the cursor goes over wide characters and over marks as the terminal shows them") {
  const TemporaryDirectory state;
  Chat chat(state);
  REQUIRE(chat.wait_for_prompt());
  chat.type("e\u0301ab\x02\x02\x02X");  // back over a, b and the letter with its accent
  CHECK(chat.wait_for("Xe\u0301ab\b\b\b"));
  chat.type("\x05日本\x02Y");  // Y before an ideograph of two columns
  CHECK(chat.wait_for("Y本\b\b"));
  chat.type("\x05z\u0308\x7f!");  // deleted as one
  CHECK(chat.asked() == "Xe\u0301ab日Y本!\n");
  chat.end();
}

TEST_CASE("bytes that are not UTF-8 are seen as such, and the keys behind them count") {
  const TemporaryDirectory state;
  Chat chat(state);
  REQUIRE(chat.wait_for_prompt());
  chat.type("a\xfc\xe6z");
  CHECK(chat.wait_for("a\uFFFD\uFFFDz"));
  CHECK(chat.asked() == "a\uFFFD\uFFFDz\n");
  chat.end();
}

TEST_CASE("lines that are pasted are one question") {
  const TemporaryDirectory state;
  Chat chat(state);
  REQUIRE(chat.wait_for("\x1b[?2004h"));
  REQUIRE(chat.wait_for_prompt());
  chat.type("See: \x1b[200~one 日本\rtwo\n\tthree\x1b[31m\x1b[201~!");
  CHECK(chat.wait_for("three"));
  CHECK(chat.asked() == "See: one 日本\\ntwo\\n\tthree[31m!\n");
  CHECK(chat.screen().find("\x1b[?2004l") != std::string::npos);  // an answer is not a place to paste into
  REQUIRE(chat.wait_for_prompt());
  chat.type("\x1b[200~" + std::string(20000, 'x') + "\x1b[201~");
  CHECK(chat.asked() == std::string(20000, 'x') + "\n");
  chat.end();
}

TEST_CASE("Ctrl-Space is no end of the chat, and Ctrl-C ends a paste whose end was lost") {
  const TemporaryDirectory state;
  Chat chat(state);
  REQUIRE(chat.wait_for_prompt());
  chat.type("one" + std::string(1, '\0') + " two");
  CHECK(chat.asked() == "one two\n");
  REQUIRE(chat.wait_for_prompt());
  chat.type("\x1b[200~unfinished");
  REQUIRE(!chat.wait_for("unfinished", 300));  // a key that is typed comes in a read of its own
  chat.type("\x03");
  CHECK(chat.wait_for("unfinished"));
  CHECK(chat.asked() == "unfinished\n");
  chat.end();
}

TEST_CASE("a signal that ends the program leaves the terminal as it was, without marks around what is pasted") {
  const TemporaryDirectory state;
  Chat chat(state);
  REQUIRE(chat.wait_for("\x1b[?2004h"));
  REQUIRE(chat.wait_for_prompt());
  chat.send(SIGTERM);
  CHECK(chat.exit_code() == 128 + SIGTERM);
  CHECK(chat.screen().ends_with("\x1b[?2004l"));
}

TEST_CASE("a terminal without any abilities has lines, Ctrl-C and Ctrl-D, and no escape sequences") {
  const TemporaryDirectory state;
  for (const char* term : {"dumb", ""}) {
    CAPTURE(term);
    Chat chat(state, {{"TERM", term}});
    REQUIRE(chat.wait_for("> "));
    chat.type("never mind\x03");
    REQUIRE(chat.wait_for("> "));
    chat.type("Grüße 日本語");
    CHECK(chat.asked() == "Grüße 日本語\n");
    chat.end();
    CHECK(chat.screen().find('\x1b') == std::string::npos);
  }
}
