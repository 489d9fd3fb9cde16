// What a supervisor, a container or a shell does to the program: signals, full disks and pipes that close.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "model_folder.h"
#include "support/places.h"
#include "support/process.h"
#include "support/sanitized.h"

#if defined(__linux__)

namespace {

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;

bool has_ended(pid_t child) {
  siginfo_t ended{};
  ::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT);
  return ended.si_pid != 0;
}

std::string first_word_of(const fs::path& path) {
  std::ifstream in(path);
  std::string word;
  in >> word;
  return word;
}

/// The process of tqkv itself, behind a program that starts it as process 1; 0 when that one ended.
pid_t tqkv_behind(pid_t child, bool is_first) {
  if (!is_first) return child;
  const std::string id = std::to_string(child);
  std::string inner;
  while (inner.empty() && !has_ended(child)) inner = first_word_of("/proc/" + id + "/task/" + id + "/children");
  return inner.empty() ? 0 : static_cast<pid_t>(std::atoi(inner.c_str()));
}

/// Waits until the program has handlers for every one of these signals.
void wait_until_handled(pid_t child, pid_t tqkv) {
  unsigned long long caught = 0;
  const unsigned long long all = (1ull << (SIGINT - 1)) | (1ull << (SIGTERM - 1)) | (1ull << (SIGHUP - 1));
  while ((caught & all) != all && !has_ended(child)) {
    std::ifstream status("/proc/" + std::to_string(tqkv) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("Name:") && line.find("tqkv") == std::string::npos) break;
      if (line.starts_with("SigCgt:")) caught = std::strtoull(line.c_str() + 7, nullptr, 16);
    }
  }
}

const std::vector<std::string> as_first{"/usr/bin/unshare", "--pid", "--fork", "--kill-child"};

bool can_be_first() {
  if (!fs::exists(as_first.front())) return false;
  std::vector<std::string> probe = as_first;
  probe.emplace_back("/bin/true");
  return run(probe).exit_code == 0;
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

void ends_every_command(bool is_first) {
  const TemporaryDirectory folder;
  const std::string pipe = (folder / "pipe").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const std::string session = (folder / "session").string();
  REQUIRE(run_tqkv({"prefill", "pocket", "Hi", "--save-session", session}).exit_code == 0);
  // Each waits: for its input, or with a page that is half written for a file that never comes.
  const std::vector<std::vector<std::string>> commands{
      {"report", pipe, "--output", (folder / "page.html").string()},
      {"generate", "pocket", "--file", pipe, "Hi", "--save-session", session},
      {"prefill", "pocket", "--file", pipe, "--save-session", session},
      {"chat", "pocket"},
      {"tokenize", "pocket"},
      {"evaluate", "pocket", "--text", pipe},
      {"benchmark", "pocket", "--text", pipe},
      {"logits", "pocket", "--ids", pipe, "--output", (folder / "logits").string()},
      {"compare", pipe, pipe}};
  for (const std::vector<std::string>& command : commands) {
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
      CAPTURE(command.front());
      CAPTURE(signal);
      std::vector<std::string> line = is_first ? as_first : std::vector<std::string>();
      line.emplace_back(test::program());
      line.insert(line.end(), command.begin(), command.end());
      const bool writes = command.front() == "report";
      ProcessOptions options;
      options.before_input = [&](pid_t child) {
        const pid_t tqkv = tqkv_behind(child, is_first);
        if (tqkv == 0) return;
        wait_until_handled(child, tqkv);
        while (writes && files_in(folder.path()) < 3 && !has_ended(child)) continue;
        ::kill(tqkv, signal);
      };
      const ProcessResult result = run(line, options);
      CAPTURE(result.error);
      CHECK(result.exit_code == 128 + signal);
      CHECK(result.error.find("internal") == std::string::npos);
      CHECK(files_in(folder.path()) == 2);  // the pipe and the session
    }
    if (sanitized) break;
  }
}

TEST_CASE("SIGTERM, SIGINT and SIGHUP end every command and leave no temporary file") {
  ends_every_command(false);
}

TEST_CASE("as process 1 of a container the program ends by SIGTERM, SIGINT and SIGHUP too") {
  if (!can_be_first()) {
    MESSAGE("no new process namespace is allowed here: skipped");
    return;
  }
  ends_every_command(true);
}

TEST_CASE("a signal that a supervisor ignores for the program stays ignored") {
  // nohup starts it so that it outlives its terminal; SIGTERM still ends it.
  ProcessOptions options;
  options.before_input = [&](pid_t child) {
    unsigned long long ignored = 0, caught = 0;
    while ((caught & (1ull << (SIGTERM - 1))) == 0 && !has_ended(child)) {
      std::ifstream status("/proc/" + std::to_string(child) + "/status");
      for (std::string line; std::getline(status, line);) {
        if (line.starts_with("Name:") && line.find("tqkv") == std::string::npos) break;
        if (line.starts_with("SigIgn:")) ignored = std::strtoull(line.c_str() + 7, nullptr, 16);
        if (line.starts_with("SigCgt:")) caught = std::strtoull(line.c_str() + 7, nullptr, 16);
      }
    }
    CHECK((ignored & (1ull << (SIGHUP - 1))) != 0);
    ::kill(child, SIGHUP);
    ::kill(child, SIGTERM);
  };
  CHECK(run({"/bin/sh", "-c", "trap '' HUP; exec \"$0\" chat pocket", test::program()}, options).exit_code ==
        128 + SIGTERM);
}

TEST_CASE("a session that the disk has no room for is refused before it is computed") {
  const char* unshare = "/usr/bin/unshare";
  const std::string small = "mount -t tmpfs -o size=64k none \"$1\" && shift && exec \"$@\"";
  const TemporaryDirectory folder;
  if (!fs::exists(unshare) ||
      run({unshare, "-m", "/bin/sh", "-c", small, "sh", folder.path().string(), "/bin/true"}).exit_code != 0) {
    MESSAGE("no file system may be mounted here: skipped");
    return;
  }
  const std::string session = (folder / "session").string();
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"prefill", "pocket", "Hi", "--save-session", session},
        {"generate", "pocket", "Hi", "--max-tokens", "2", "--save-session", session}}) {
    std::vector<std::string> line{unshare, "-m", "/bin/sh", "-c", small, "sh", folder.path().string(), test::program()};
    line.insert(line.end(), command.begin(), command.end());
    const ProcessResult result = run(line);
    CAPTURE(result.error);
    CHECK(result.exit_code == 1);
    CHECK(contains(result.error, "tqkv: [io] " + session + ": a session of up to "));
    CHECK(contains(result.error, " bytes, but the disk has 65,536 free: make room"));
    CHECK(lines_in(result.error) == 1);  // before the model is loaded
    CHECK(result.output.empty());
  }
}

}  // namespace

#endif
