// Completion scripts and the manual page know what help knows.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/places.h"
#include "support/process.h"

namespace {

using namespace tqkv::test;

std::string printed(const std::vector<std::string>& arguments) {
  const ProcessResult result = run_tqkv(arguments);
  REQUIRE(result.exit_code == 0);
  CHECK(result.error.empty());
  return result.output;
}

/// The first words of the lines of help under "Subcommands:".
std::vector<std::string> commands() {
  std::istringstream help(printed({"--help"}));
  std::vector<std::string> names;
  bool inside = false;
  for (std::string line; std::getline(help, line);) {
    if (line == "Subcommands:")
      inside = true;
    else if (inside && line.starts_with("  ") && line[2] != ' ')
      names.push_back(line.substr(2, line.find(' ', 2) - 2));
    else if (inside && !line.starts_with("  "))
      inside = false;
  }
  REQUIRE(names.size() >= 8);
  return names;
}

std::set<std::string> options(const std::string& command) {
  std::istringstream help(printed({command, "--help"}));
  std::set<std::string> found;
  for (std::string line; std::getline(help, line);)
    if (const std::size_t start = line.find("--"); line.starts_with("  -") && start < 6)
      found.insert(line.substr(start, line.find_first_of(" ,", start) - start));
  CHECK(found.contains("--help"));
  return found;
}

/// What bash offers for the last word.
std::string offered(const std::string& words) {
  const ProcessResult result = run({"/bin/bash", "-c",
                                    "eval \"$(\"$0\" completion bash)\" && COMP_WORDS=(" + words +
                                        ") && COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) && _tqkv; echo \"${COMPREPLY[*]}\"",
                                    test::program()});
  CHECK(result.error.empty());
  CHECK(result.exit_code == 0);
  return result.output;
}

}  // namespace

TEST_CASE("every command and option of help is in the completion scripts and in the manual page") {
  const std::string bash = printed({"completion", "bash"}), zsh = printed({"completion", "zsh"}),
                    manual = printed({"manual"});
  for (const std::string& command : commands()) {
    CAPTURE(command);
    CHECK(bash.find("    " + command + ") options='") != std::string::npos);
    CHECK(zsh.find("      " + command + ")") != std::string::npos);
    const std::size_t section = manual.find(".SH \"tqkv " + command + "\"");
    REQUIRE(section != std::string::npos);
    const std::string page = manual.substr(section, manual.find(".SH", section + 1) - section);
    for (const std::string& option : options(command)) {
      CAPTURE(option);
      CHECK(zsh.find("'" + option + "[") != std::string::npos);
      std::string name;
      for (const char c : option) name += c == '-' ? std::string("\\-") : std::string(1, c);
      CHECK(page.find("\\fB" + name + "\\fR") != std::string::npos);
    }
  }
}

TEST_CASE("bash completes commands, options, choices, backends and the bundled model") {
  CHECK(offered("tqkv gener") == "generate\n");
  CHECK(offered("tqkv generate --prec") == "--precision\n");
  CHECK(offered("tqkv generate --precision ''") == "fast f32\n");
  CHECK(offered("tqkv benchmark --backend trel") == "trellis\n");
  CHECK(offered("tqkv inspect pock") == "pocket\n");
}

TEST_CASE("a shell without a completion script is a usage error") {
  const ProcessResult result = run_tqkv({"completion", "tcsh"});
  CHECK(result.exit_code == 2);
  CHECK(result.error.find("tcsh") != std::string::npos);
}
