#include "runtime/plan/running.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "support/temporary_directory.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t GB = 1'000'000'000;

/// Another process that announces itself and lives until it is killed.
class Other {
 public:
  Other(const fs::path& folder, const std::string& model, const fs::path& directory, std::uint64_t weights,
        std::uint64_t anonymous) {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const Announcement announcement(model, directory, weights, anonymous, folder);
      const char byte = 1;
      if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char byte = 0;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~Other() { kill(); }
  Other(const Other&) = delete;
  Other& operator=(const Other&) = delete;
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

std::ptrdiff_t files_in(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

MemoryPlan plan_of(std::uint64_t weights, std::uint64_t kv) {
  MemoryPlan plan;
  plan.weights = weights;
  plan.kv = kv;
  return plan;
}

}  // namespace

TEST_CASE("a process that runs a model is seen by the next one until it ends, however it ends") {
  const TemporaryDirectory directory;
  const fs::path folder = directory.path() / "running";
  CHECK(running_processes(folder).empty());
  Other other(folder, "org/name\nof two lines", directory.path(), 20 * GB, 3 * GB);
  const auto found = running_processes(folder);
  REQUIRE(found.size() == 1);
  CHECK(found[0].pid == other.pid());
  CHECK(found[0].model == "org/name of two lines");
  CHECK(found[0].directory == fs::canonical(directory.path()));
  CHECK(found[0].weights == 20 * GB);
  CHECK(found[0].anonymous == 3 * GB);
#if defined(__linux__)
  CHECK(found[0].resident > 0);
  CHECK(found[0].promised() == 3 * GB - found[0].resident);
#endif
  other.kill();
  CHECK(running_processes(folder).empty());
  CHECK(files_in(folder) == 0);
}

TEST_CASE("a process does not see itself, and a later announcement takes the place of an earlier one") {
  const TemporaryDirectory directory;
  const fs::path folder = directory.path() / "running";
  {
    Announcement announcement("one", directory.path(), 1, 2, folder);
    CHECK(running_processes(folder).empty());
    CHECK(files_in(folder) == 1);
    announcement = Announcement("two", directory.path(), 3, 4, folder);
    CHECK(files_in(folder) == 1);
    std::ifstream file(folder / std::to_string(::getpid()));
    std::string line;
    std::getline(file, line);
    CHECK(line == "model two");
  }
  CHECK(files_in(folder) == 0);
}

TEST_CASE("a folder that others can write to is neither read nor written") {
  const TemporaryDirectory directory;
  const fs::path folder = directory.path() / "running";
  fs::create_directory(folder);
  REQUIRE(::chmod(folder.c_str(), 0777) == 0);
  const Other other(folder, "name", directory.path(), GB, GB);
  CHECK(files_in(folder) == 0);
  CHECK(running_processes(folder).empty());
  fs::create_directory_symlink(directory.path(), directory.path() / "link");
  const Announcement announcement("name", directory.path(), GB, GB, directory.path() / "link");
  CHECK(!fs::exists(directory.path() / std::to_string(::getpid())));
}

TEST_CASE("what else lies in the folder is left alone or harmless") {
  const TemporaryDirectory directory;
  const fs::path folder = directory.path() / "running";
  fs::create_directory(folder);
  fs::permissions(folder, fs::perms::owner_all);
  for (const char* name : {"notes.txt", "-5", "0005", "99999999999999999999", "new-77"})
    std::ofstream(folder / name) << "model x\nweights 5\n";
  fs::create_directory(folder / "123");
  CHECK(running_processes(folder).empty());
  CHECK(files_in(folder) == 6);
}

TEST_CASE("the second of two large models is told about the first, and the same weights count once") {
  const RunningProcess first{4711, "org/large", "/models/large", 20 * GB, 2 * GB, GB};
  const auto line = [&](const fs::path& directory, std::uint64_t total) {
    return describe_others({first}, plan_of(18 * GB, GB), directory, total);
  };
  const std::string shared = line("/models/large", 32 * GB);
  CHECK(shared.find("process 4711 runs org/large (20.0 GB of weights, the same, 2.0 GB in addition)") !=
        std::string::npos);
  CHECK(shared.find("together 23.0 GB of 32.0 GB") != std::string::npos);
  CHECK(shared.find("again and again") == std::string::npos);

  const std::string both = line("/models/other", 32 * GB);
  CHECK(both.find("together 41.0 GB of 32.0 GB") != std::string::npos);
  CHECK(both.find("again and again") != std::string::npos);
  CHECK(line("/models/other", 64 * GB).find("again and again") == std::string::npos);
}

TEST_CASE("small models are not worth a word") {
  const RunningProcess small{4711, "pocket", "/models/pocket", GB / 50, GB / 50, 0};
  const RunningProcess large{4712, "org/large", "/models/large", 20 * GB, 2 * GB, 0};
  CHECK(describe_others({small}, plan_of(20 * GB, GB), "/models/large", 32 * GB).empty());
  CHECK(describe_others({large}, plan_of(20 * GB, GB), "/models/large", 0).empty());  // not known
  CHECK(describe_others({large}, plan_of(GB / 50, GB / 50), "/models/pocket", 32 * GB).empty());
  CHECK(describe_others({small, large}, plan_of(20 * GB, GB), "/models/x", 64 * GB).find("pocket") ==
        std::string::npos);
}
