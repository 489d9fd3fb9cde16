// Files that a command reads are not those that it writes, and only regular ones are mapped.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "support/failure.h"
#include "support/process.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

namespace fs = std::filesystem;

/// The one line of a command that is refused as wrong usage.
std::string refusal(const std::vector<std::string>& arguments, const fs::path& folder) {
  ProcessOptions options;
  options.directory = folder;
  const ProcessResult result = run_tqkv(arguments, options);
  CAPTURE(result.error);
  CHECK(result.exit_code == 2);
  CHECK(result.output.empty());
  CHECK(result.error.find('\n') == result.error.size() - 1);
  return result.error;
}

}  // namespace

TEST_CASE("a file that a command reads is never the one that it writes: refused, with both options and the file") {
  const TemporaryDirectory folder;
  const std::string file = folder.write("tx", "some text");
  fs::create_symlink("tx", folder / "link");
  const struct {
    std::vector<std::string> arguments;
    const char* options;
  } cases[] = {
      {{"evaluate", "--captured", "tx", "--output", "tx"}, "--captured and --output both name tx"},
      {{"evaluate", "--captured", "tx", "--output", "link"}, "--captured and --output both name link"},
      {{"evaluate", "pocket", "--text", "link", "--output", "tx"}, "--text and --output both name tx"},
      {{"evaluate", "pocket", "--text", file, "--output", "./tx"}, "--text and --output both name ./tx"},
      {{"evaluate", "pocket", "--text", "tx", "--capture", "tx"}, "--text and --capture both name tx"},
      {{"evaluate", "pocket", "--text", "tx", "--logits", "tx"}, "--text and --logits both name tx"},
      {{"evaluate", "pocket", "--capture", "new", "--output", "./new"}, "--capture and --output both name"},
      {{"benchmark", "pocket", "--text", "tx", "--output", "tx"}, "--text and --output both name tx"},
      {{"tune", "pocket", "--text", "tx", "--output", "tx"}, "--text and --output both name tx"},
      {{"prefill", "pocket", "--file", "tx", "--save-session", "tx"}, "--file and --save-session both name tx"},
      {{"generate", "pocket", "--messages", "tx", "--save-session", "tx"}, "--messages and --save-session"},
      {{"generate", "pocket", "Hi", "--tools", "tx", "--save-session", "tx"}, "--tools and --save-session"},
      {{"logits", "pocket", "--ids", "tx", "--output", "tx"}, "--ids and --output both name tx"},
      {{"compare", "tx", "tx", "--output", "tx"}, "FILES and --output both name tx"},
      {{"report", "tx", "--output", "link"}, "FILES and --output both name link"},
      {{"inspect", "tx", "--output", "tx"}, "MODEL and --output both name tx"}};
  for (const auto& one : cases) {
    CHECK(contains(refusal(one.arguments, folder.path()), one.options));
    CHECK(read_text(file) == "some text");
    CHECK(!fs::exists(folder / "new"));
  }
}

TEST_CASE("standard input, devices and a session that is continued may be named twice") {
  const TemporaryDirectory folder;
  const std::string session = (folder / "s").string();
  CHECK(run_tqkv({"prefill", "pocket", "Hi", "--save-session", session}).exit_code == 0);
  CHECK(run_tqkv({"prefill", "pocket", "More", "--session", session, "--save-session", session}).exit_code == 0);
  ProcessOptions ids;
  ids.input = "[1, 2]";
  CHECK(run_tqkv({"logits", "pocket", "--ids", "-", "--output", "-"}, ids).exit_code == 0);
  CHECK(contains(run_tqkv({"report", "/dev/null", "--output", "/dev/null"}).error, "[input]"));
}

TEST_CASE("a pipe that nobody writes to is refused at once where a regular file is needed") {
  const TemporaryDirectory folder;
  const std::string pipe = (folder / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"evaluate", "--captured", pipe}, {"generate", "pocket", "Hi", "--session", pipe}}) {
    const ProcessResult result = run_tqkv(arguments);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.error, "is not a regular file"));
  }
  for (const char* command : {"tune", "evaluate"})
    CHECK(contains(refusal({command, "pocket", "--resume", "--output", pipe}, folder.path()), "is no regular file"));
}
