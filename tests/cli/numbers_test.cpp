// Numbers on the command line and in variables, and messages about what is no number.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "model_folder.h"
#include "support/process.h"
#include "support/sanitized.h"

namespace {

using namespace tqkv::test;
using nlohmann::json;

/// The options of all commands that take a number, as help names them: command and option.
std::vector<std::pair<std::string, std::string>> numeric_options() {
  const std::set<std::string> types{"N", "N,...", "X", "X,...", "P", "T", "K", "MB", "GB"};
  std::vector<std::pair<std::string, std::string>> found;
  for (const char* command : {"generate", "chat", "prefill", "benchmark", "evaluate", "inspect", "logits", "pull"}) {
    std::istringstream help(run_tqkv({command, "--help"}).output);
    for (std::string line; std::getline(help, line);) {
      std::istringstream words(line);
      std::string option, type;
      words >> option >> type;
      if (option.starts_with("--kv-")) continue;  // part of a format, which has messages of its own
      if (option.starts_with("--") && types.contains(type)) found.emplace_back(command, option);
    }
  }
  return found;
}

std::string ids_of(const std::string& count) {
  const ProcessResult result =
      run_tqkv({"generate", "pocket", "Once upon a time", "--raw", "--max-tokens", count, "--json"});
  REQUIRE_MESSAGE(result.exit_code == 0, result.error);
  return json::parse(result.output)["ids"].dump();
}

TEST_CASE("an option that takes a number refuses what is none, whichever option it is") {
  const auto options = numeric_options();
  CHECK(options.size() > 40);
  std::vector<std::string> none{"nan", "inf", "0x10", "99999999999999999999999999999999", "1e999", "", "ten", "1 0"};
  if (sanitized) none = {"nan", "99999999999999999999999999999999"};
  for (const auto& one : options) {
    const std::string& command = one.first;
    const std::string& option = one.second;
    for (const std::string& text : none) {
      const bool fits = text == "99999999999999999999999999999999" &&  // for a real number without bounds
                        (option == "--temperature" || option.ends_with("-penalty") || option.ends_with("-p"));
      if (fits) continue;
      CAPTURE(command);
      CAPTURE(option);
      CAPTURE(text);
      const ProcessResult result = run_tqkv({command, "pocket", option + "=" + text});
      CHECK(result.exit_code == 2);
      CHECK(lines_in(result.error) == 1);
      CHECK(contains(result.error, "tqkv: [usage] tqkv " + command + ": " + option));
    }
  }
}

TEST_CASE("zeros in front of a number change nothing: 010 is ten") {
  const std::string ten = ids_of("10");
  CHECK(json::parse(ten).size() == 10);
  for (const char* count : {"010", "0010", "+10"}) CHECK(ids_of(count) == ten);
  const auto seeded = [](const char* seed) {
    const ProcessResult result = run_tqkv({"generate", "pocket", "Once upon", "--raw", "--temperature", "2", "--seed",
                                           seed, "--max-tokens", "12", "--json"});
    REQUIRE_MESSAGE(result.exit_code == 0, result.error);
    return json::parse(result.output)["ids"].dump();
  };
  CHECK(seeded("012") == seeded("12"));
  CHECK(seeded("18446744073709551615") != seeded("12"));
  for (const char* seed : {"18446744073709551616", "-1"})
    CHECK(run_tqkv({"generate", "pocket", "Hi", "--seed", seed}).exit_code == 2);
}

TEST_CASE("a number beyond its range is refused with the range") {
  const ProcessResult result = run_tqkv({"pull", "a/b", "--connections", "17"});
  CHECK(result.exit_code == 2);
  CHECK(contains(result.error, "--connections: \"17\" is not a whole number from 1 to 16"));
  CHECK(contains(run_tqkv({"evaluate", "pocket", "--depths", "0,1.5"}).error, "\"1.5\" is not a number from 0 to 1"));
}

TEST_CASE("a message shows at most a line of what was given, whatever its length") {
  const std::string length(5000, '9'), name(5000, 'n');
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{name},
                                             {"--" + name},
                                             {"generate", name, "Hi"},
                                             {"generate", "pocket", "Hi", "--" + name},
                                             {"generate", "pocket", "Hi", "--max-tokens", length},
                                             {"generate", "pocket", "Hi", "--temperature", name},
                                             {"generate", "pocket", "Hi", "--precision", name},
                                             {"generate", "pocket", "Hi", "--backend", name},
                                             {"generate", "pocket", "Hi", "--kv-seed", length},
                                             {"generate", "pocket", "Hi", "--session", name},
                                             {"generate", "pocket", "Hi", "--file", name},
                                             {"generate", "pocket", "Hi", "--save-session", name},
                                             {"inspect", "pocket", "--output", name},
                                             {"pull", name},
                                             {"verify", name},
                                             {"models", "remove", name},
                                             {"report", name, "--output", "x"}}) {
    const ProcessResult result = run_tqkv(arguments);
    CAPTURE(result.error.substr(0, 200));
    CHECK((result.exit_code == 1 || result.exit_code == 2));
    CHECK(lines_in(result.error) == 1);
    CHECK(result.error.size() < 1100);
    CHECK(result.error.find("[internal]") == std::string::npos);
  }
  ProcessOptions options;
  options.environment = {{"HF_HUB_ETAG_TIMEOUT", length}};
  const ProcessResult variable = run_tqkv({"pull", "a/b"}, options);
  CHECK(variable.exit_code == 1);
  CHECK(variable.error.size() < 1100);
  CHECK(contains(variable.error, "HF_HUB_ETAG_TIMEOUT"));
}

TEST_CASE("timeouts of the hub in variables: ten is 010, and nan, inf and what is too large are refused") {
  ProcessOptions options;
  options.environment = {{"HF_HUB_ETAG_TIMEOUT", ""}, {"HF_HUB_OFFLINE", "1"}, {"HF_HUB_CACHE", "/nowhere"}};
  for (const char* text : {"nan", "inf", "1e999", "0x10", "99999999999999999999", "-1"}) {
    options.environment.front().second = text;
    const ProcessResult result = run_tqkv({"pull", "a/b"}, options);
    CHECK(contains(result.error, std::string("HF_HUB_ETAG_TIMEOUT: \"") + text + "\" is no number of seconds"));
  }
  options.environment.front().second = "010";
  CHECK(contains(run_tqkv({"pull", "a/b"}, options).error, "HF_HUB_OFFLINE is set"));
}

}  // namespace
