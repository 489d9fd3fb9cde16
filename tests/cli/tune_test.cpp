// `tqkv tune` as a person meets it. What it chooses is tested in tests/measure/tune_test.cpp.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "support/failure.h"
#include "support/process.h"
#include "support/sanitized.h"
#include "support/temporary_directory.h"

using namespace tqkv::test;

namespace {

ProcessResult tune(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"tune", "pocket"});
  return run_tqkv(arguments);
}

}  // namespace

TEST_CASE("tune ends with a format that --backend takes, and its file resumes for another goal" *
          doctest::skip(sanitized)) {
  const TemporaryDirectory folder;
  const std::string file = (folder / "tuning.json").string();
  const ProcessResult first = tune({"--bits", "3", "--tokens", "512", "--output", file});
  REQUIRE(first.exit_code == 0);
  CHECK(contains(first.error, "passes of 511 tokens"));
  std::string format = first.output.substr(0, first.output.size() - 1);
  format = format.substr(format.rfind('\n') + 1);
  CHECK(run_tqkv({"generate", "pocket", "Hi", "--max-tokens", "1", "--backend", format}).exit_code == 0);
  const ProcessResult second = tune({"--kl", "0.01", "--tokens", "512", "--output", file, "--resume"});
  CHECK(second.exit_code == 0);
  CHECK(contains(second.error, "continues after"));
}

TEST_CASE("what tune cannot do is one line and the right exit code") {
  const TemporaryDirectory folder;
  const auto refusal = [](int code, std::vector<std::string> arguments) {
    const ProcessResult result = tune(std::move(arguments));
    CHECK(result.exit_code == code);
    CHECK(result.output.empty());
    CHECK(result.error.find('\n') == result.error.size() - 1);
    return result.error;
  };
  CHECK(contains(refusal(2, {"--bits", "4", "--kl", "0.1"}), "excludes"));
  CHECK(contains(refusal(2, {"--bits", "1"}), "--bits"));
  CHECK(contains(refusal(2, {"--bits", "nan"}), "--bits"));
  CHECK(contains(refusal(2, {"--kl", "0"}), "--kl"));
  CHECK(contains(refusal(2, {"--bytes-per-token", "10"}), "less than 2 bits take"));
  CHECK(contains(refusal(2, {"--tokens", "100"}), "--tokens"));
  CHECK(contains(refusal(2, {"--resume"}), "give --output too"));
  CHECK(contains(refusal(2, {"--resume", "--output", "-"}), "- is standard output: name a file"));
  CHECK(contains(refusal(2, {"--resume", "--output", "/dev/null"}), "/dev/null is no regular file"));
  CHECK(contains(refusal(1, {"--text", folder.write("short.txt", "Hello.")}), "at least 1024 are needed"));
  CHECK(contains(refusal(1, {"--text", (folder / "none").string()}), "none"));
}
