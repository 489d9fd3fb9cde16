// What the program reads: text that is piped in, its encodings, and streams that wait.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "model_folder.h"
#include "support/places.h"
#include "support/process.h"

namespace {

using namespace tqkv::test;
using tqkv::read_text;

/// The prompt that `generate` would send.
ProcessResult prompt(std::vector<std::string> arguments, const std::string& input = "") {
  arguments.insert(arguments.begin(), {"generate", "pocket", "--print-prompt"});
  ProcessOptions options;
  options.input = input;
  return run_tqkv(arguments, options);
}

/// The same with a redirection of the shell, $1 being `file`.
ProcessResult redirected(const std::string& redirection, const std::string& file = "") {
  return run({"/bin/sh", "-c", "exec \"$0\" generate pocket --print-prompt 'Sum up' " + redirection,
              tqkv::test::program(), file});
}

std::string utf16(const std::u16string& text) {
  std::string bytes;
  for (const char16_t unit : text) bytes += {static_cast<char>(unit & 0xff), static_cast<char>(unit >> 8)};
  return bytes;
}

}  // namespace

TEST_CASE("text that is piped in stands before the prompt, as that of --file does") {
  const TemporaryDirectory folder;
  const std::string text = "Notes\r\nof two lines\r\n", file = folder.write("notes.txt", text);
  const ProcessResult expected = prompt({"--file", file, "Sum up"}), piped = prompt({"Sum up"}, text);
  CHECK(contains(expected.output, "user\nNotes\r\nof two lines\n\nSum up<|im_end|>"));
  CHECK(piped.exit_code == 0);
  CHECK(piped.output == expected.output);
  CHECK(piped.error == "tqkv: standard input: 21 bytes, in front of PROMPT\n");
  CHECK(redirected("< \"$1\"", file).output == expected.output);
  CHECK(prompt({"--raw", "Sum up"}, text).output == "Notes\r\nof two lines\n\nSum up");
  // What is named is read, and nothing else.
  CHECK(prompt({"--file", file, "Sum up"}, "other").output == expected.output);
  CHECK(prompt({"--file", "-", "Sum up"}, text).output == expected.output);
  CHECK(contains(prompt({"-"}, "Hi").output, "user\nHi<|im_end|>"));
}

TEST_CASE("a standard input without text changes nothing") {
  const TemporaryDirectory folder;
  const std::string empty = folder.write("empty", "");
  const ProcessResult expected = prompt({"Sum up"});
  CHECK(contains(expected.output, "user\nSum up<|im_end|>"));
  for (const std::string redirection : {"< /dev/null", "<&-", "< \"$1\"", "0> \"$1\"", "< /"}) {
    CAPTURE(redirection);
    const ProcessResult result = redirected(redirection, empty);
    CHECK(result.exit_code == 0);
    CHECK(result.output == expected.output);
    CHECK(result.error.empty());
  }
}

TEST_CASE("a pipe that its owner keeps open and silent is left out, with a line that says so") {
  const TemporaryDirectory folder;
  const std::string pipe = (folder.path() / "pipe").string();
  REQUIRE(run({"/usr/bin/env", "mkfifo", pipe}).exit_code == 0);
  const ProcessResult result = redirected("0<> \"$1\"", pipe);
  CHECK(result.exit_code == 0);
  CHECK(contains(result.output, "user\nSum up<|im_end|>"));
  CHECK(contains(result.error, "tqkv: standard input: an open pipe with nothing in it for 5 s: left out"));
}

TEST_CASE("files with a byte order mark or in UTF-16 are read as the text that people see") {
  const TemporaryDirectory folder;
  const std::string expected = prompt({"Grüße 日本語\r\n👋"}).output;
  const std::string marked = "\xef\xbb\xbfGrüße 日本語\r\n👋", wide = utf16(u"\ufeffGrüße 日本語\r\n👋");
  for (const std::string& text : {marked, wide}) {
    CHECK(prompt({"--file", folder.write("text", text)}).output == expected);
    CHECK(prompt({"-"}, text).output == expected);
  }
  const std::string messages = "[{\"role\": \"user\", \"content\": \"Grüße 日本語\\r\\n👋\"}]";
  CHECK(prompt({"--messages", folder.write("marked.json", "\xef\xbb\xbf" + messages)}).output == expected);
  const std::u16string wide_messages = u"\ufeff[{\"role\": \"user\", \"content\": \"Grüße 日本語\\r\\n👋\"}]";
  CHECK(prompt({"--messages", folder.write("wide.json", utf16(wide_messages))}).output == expected);

  const ProcessResult ids = run_tqkv({"tokenize", "pocket", "--file", folder.write("lines", "\"Hi\"\r\n\"you\"\r\n")});
  CHECK(ids.exit_code == 0);
  CHECK(run_tqkv({"tokenize", "pocket", "--file", folder.write("marked", "\xef\xbb\xbf\"Hi\"\n\"you\"\n")}).output ==
        ids.output);
  CHECK(run_tqkv({"tokenize", "pocket", "--file", folder.write("wide", utf16(u"\ufeff\"Hi\"\r\n\"you\""))}).output ==
        ids.output);
}

TEST_CASE("bytes that are not UTF-8 are named with their place") {
  const TemporaryDirectory folder;
  const std::string latin = folder.write("latin.txt", "Hi\nGr\xfc\xdf Gott");
  const ProcessResult text = prompt({"--file", latin});
  CHECK(text.exit_code == 0);
  CHECK(contains(text.output, "Gr\uFFFD\uFFFD Gott"));
  CHECK(text.error == "tqkv: warning: " + latin +
                          ": line 2, column 3: byte 0xfc is invalid UTF-8 (1 more sequence follows): read as U+FFFD\n");
  const std::string json = folder.write("latin.json", "[{\"role\": \"user\", \"content\": \"Gr\xfc\xdf\"}]");
  const ProcessResult messages = prompt({"--messages", json});
  CHECK(messages.exit_code == 1);
  CHECK(contains(messages.error, "tqkv: [input] " + json + ": line 1, column 33: byte 0xfc is invalid UTF-8"));
  const ProcessResult wide = prompt({"--file", folder.write("cut.txt", std::string("\xff\xfe") + "a")});
  CHECK(wide.exit_code == 1);
  CHECK(contains(wide.error, "cut.txt: byte 3: the text is UTF-16 and ends inside a character: save it as UTF-8"));
}

TEST_CASE("streams in non-blocking mode are waited for, and nothing is cut") {
  ProcessOptions options;
  options.non_blocking = true;
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "line " + std::to_string(i) + "\n";  // more than pipes take at once
  options.input = text;
  const ProcessResult prompt = run_tqkv({"generate", "pocket", "--print-prompt", "--raw", "-"}, options);
  CHECK(prompt.exit_code == 0);
  CHECK(prompt.output == text);
  options.input = "Hi\n\nHi\n";
  const ProcessResult chat = run_tqkv({"chat", "pocket", "--max-tokens", "2", "--greedy"}, options);
  CHECK(chat.exit_code == 0);
  CHECK(lines_in(chat.output) == 2);
}
