// Names and surroundings that the program did not choose: bytes that are no text, links in a circle, folders that are
// closed, a system that starts no more threads.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "model_folder.h"
#include "support/places.h"
#include "support/process.h"
#include "support/sanitized.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;
using nlohmann::json;
using namespace std::string_literals;

/// Every way to name something to the program; each must be an error of that thing when `name` is no good.
std::vector<std::vector<std::string>> ways_to_name(const std::string& name) {
  return {{"generate", name, "Hi"},
          {"generate", "pocket", "Hi", "--file", name},
          {"generate", "pocket", "--messages", name},
          {"generate", "pocket", "Hi", "--session", name},
          {"chat", name},
          {"prefill", "pocket", "Hi", "--session", name, "--save-session", name},
          {"benchmark", "pocket", "--text", name},
          {"evaluate", "pocket", "--text", name},
          {"compare", name, name},
          {"report", name, "--output", "/dev/null"},
          {"inspect", name},
          {"logits", "pocket", "--ids", name, "--output", "/dev/null"},
          {"tokenize", name},
          {"verify", name}};
}

void check_error(const ProcessResult& result) {
  CAPTURE(result.error);
  CHECK((result.exit_code == 1 || result.exit_code == 2));
  CHECK(lines_in(result.error) == 1);
  CHECK(result.error.starts_with("tqkv: ["));
  CHECK(result.error.find("internal") == std::string::npos);
}

TEST_CASE("names that are not there, not UTF-8, thousands of bytes long or links in a circle are errors of that name") {
  const TemporaryDirectory folder;
  fs::create_symlink("b", folder / "a");
  fs::create_symlink("a", folder / "b");
  fs::create_symlink(folder.path(), folder / "self");
  for (const std::string& name :
       {(folder / "\xff\xfe").string(), std::string("\xc3("), std::string(5000, 'n'), (folder / "a").string(),
        (folder / "a" / "x").string(), (folder / "self/self/x").string(), "/proc/self/mem/x"s}) {
    for (const std::vector<std::string>& arguments : ways_to_name(name)) {
      CAPTURE(arguments.front());
      ProcessOptions options;
      options.environment = {{"HF_HUB_OFFLINE", "1"}};
      check_error(run_tqkv(arguments, options));
      if (sanitized) break;
    }
  }
  for (const std::string& name : {(folder / "a").string(), std::string(5000, 'n'), "/proc/\xff"s})
    for (const std::vector<std::string>& arguments : {std::vector<std::string>{"inspect", "pocket", "--output", name},
                                                      {"report", (folder / "none").string(), "--output", name},
                                                      {"prefill", "pocket", "Hi", "--save-session", name}})
      check_error(run_tqkv(arguments));
}

TEST_CASE("files and models whose names are not UTF-8 are used, and JSON about them is valid") {
  const TemporaryDirectory folder;
  const fs::path odd = folder / "m\xff\xfe";
  fs::create_directory_symlink(pocket_folder, odd);
  const std::string session = (folder / "s\xff").string(), output = (folder / "o\xff.json").string();
  const ProcessResult answer = run_tqkv({"generate", odd.string(), "Hi", "--json", "--save-session", session});
  CHECK_MESSAGE(answer.exit_code == 0, answer.error);
  CHECK(json::parse(answer.output)["model"].get<std::string>().ends_with("m\uFFFD\uFFFD"));
  CHECK(fs::exists(session));
  const ProcessResult inspection = run_tqkv({"inspect", odd.string(), "--json"});
  CHECK_MESSAGE(inspection.exit_code == 0, inspection.error);
  CHECK(json::accept(inspection.output));
  const std::vector<std::string> benchmark{
      "benchmark",           odd.string(), "--backend", "baseline", "--prompt-tokens", "8",
      "--generation-tokens", "2",          "--trials",  "1",        "--output",        output};
  const ProcessResult measured = run_tqkv(benchmark);
  CHECK_MESSAGE(measured.exit_code == 0, measured.error);
  CHECK(json::accept(read_text(output)));
  const std::string page = (folder / "p\xff.html").string(), summary = (folder / "c\xff").string();
  CHECK(run_tqkv({"compare", output, output, "--output", summary}).exit_code == 0);
  CHECK(json::accept(read_text(summary)));
  const ProcessResult report = run_tqkv({"report", output, "--output", page});
  CHECK_MESSAGE(report.exit_code == 0, report.error);
}

TEST_CASE("a folder that is closed to the user is an error of that folder") {
  const std::string setpriv = "/usr/bin/setpriv";
  const std::vector<std::string> as_nobody{setpriv, "--reuid=65534", "--regid=65534", "--clear-groups",
                                           test::program()};
  const auto run_as_nobody = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), as_nobody.begin(), as_nobody.end());
    ProcessOptions options;
    options.environment = {{"HF_HUB_OFFLINE", "1"}};
    return run(arguments, options);
  };
  if (!fs::exists(setpriv) || run_as_nobody({"--version"}).exit_code != 0) {
    MESSAGE("no other user may be taken on here, or none may read the program: skipped");
    return;
  }
  const TemporaryDirectory folder;
  fs::permissions(folder.path(), fs::perms(0755));
  fs::create_directory(folder / "closed");
  std::ofstream(folder / "closed/file") << "text";
  fs::permissions(folder / "closed", fs::perms(0700));
  const std::string closed = (folder / "closed").string(), inside = (folder / "closed/file").string();
  for (const std::string& name : {closed, inside})
    for (const std::vector<std::string>& arguments : ways_to_name(name)) {
      CAPTURE(arguments.front());
      check_error(run_as_nobody(arguments));
    }
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"inspect", "pocket", "--output", inside},
                                                    {"report", inside, "--output", (folder / "closed/page").string()},
                                                    {"prefill", "pocket", "Hi", "--save-session", inside}})
    check_error(run_as_nobody(arguments));
}

TEST_CASE("when the system starts no more threads the error names them and how many there are" *
          doctest::skip(sanitized)) {
  // A stack larger than the address space: no thread can have one.
  const std::vector<std::string> shell{"/bin/sh", "-c", "ulimit -s 200000000000 && exec \"$@\"", "sh"};
  std::vector<std::string> probe = shell;
  probe.emplace_back("/bin/true");
  if (run(probe).exit_code != 0) {
    MESSAGE("the size of a stack cannot be raised here: skipped");
    return;
  }
  const auto limited = [&](const char* threads) {
    std::vector<std::string> line = shell;
    line.insert(line.end(), {test::program(), "generate", "pocket", "Hi", "--max-tokens", "2", "--threads", threads});
    return run(line);
  };
  const ProcessResult several = limited("4");
  CHECK(several.exit_code == 1);
  CHECK(contains(several.error, "tqkv: [memory] threads: the system started 1 of 4 and refuses more: "));
  CHECK(contains(several.error, "use --threads 1, or raise the limit"));
  const ProcessResult one = limited("1");
  CHECK_MESSAGE(one.exit_code == 0, one.error);
}

TEST_CASE("--output - is standard output, in every command that has --output") {
  const TemporaryDirectory folder;
  ProcessOptions here;
  here.directory = folder.path();
  const std::string ids = folder.write("ids.json", "[1, 2, 3, 4]"), file = (folder / "b.json").string();
  const std::vector<std::string> benchmark{
      "benchmark",           "pocket", "--backend", "baseline", "--prompt-tokens", "8",
      "--generation-tokens", "2",      "--trials",  "1",        "--output"};
  std::vector<std::string> to_file = benchmark, to_output = benchmark;
  to_file.push_back(file);
  to_output.emplace_back("-");
  REQUIRE(run_tqkv(to_file, here).exit_code == 0);
  const ProcessResult measured = run_tqkv(to_output, here);
  CHECK(json::accept(measured.output));
  CHECK(contains(measured.error, "baseline"));  // the table
  const ProcessResult compared = run_tqkv({"compare", file, file, "--output", "-"}, here);
  CHECK(json::accept(compared.output));
  CHECK(contains(compared.error, "baseline"));
  CHECK(json::accept(run_tqkv({"inspect", "pocket", "--json", "--output", "-"}, here).output));
  const ProcessResult page = run_tqkv({"report", file, "--output", "-"}, here);
  CHECK(page.output.starts_with("<!"));
  CHECK(page.output.ends_with("</html>\n"));
  const ProcessResult logits = run_tqkv({"logits", "pocket", "--ids", ids, "--output", "-"}, here);
  REQUIRE(run_tqkv({"logits", "pocket", "--ids", ids, "--output", "l"}, here).exit_code == 0);
  CHECK(logits.output == read_text(folder / "l"));
  const ProcessResult evaluated =
      run_tqkv({"evaluate", "pocket", "--backend", "baseline", "--tokens", "16", "--no-recall", "--no-codec-level",
                "--no-noise-floor", "--text", file, "--output", "-"},
               here);
  CHECK_MESSAGE(evaluated.exit_code == 0, evaluated.error);
  CHECK(json::accept(evaluated.output));
  CHECK(contains(evaluated.error, "baseline"));
  CHECK(!fs::exists(folder / "-"));
}

}  // namespace
