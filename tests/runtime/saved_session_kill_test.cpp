// A program that is killed while it saves leaves the file as it was before, or as it should be: nothing between.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/ptrace.h>
#endif

#include <vector>

#include "support/checkpoint_writer.h"
#include "support/sanitized.h"
#include "support/temporary_directory.h"
#include "tqkv/engine.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

std::vector<int> text_of(int tokens) {
  std::vector<int> ids;
  for (int i = 0; i < tokens; ++i) ids.push_back(i % 320);
  return ids;
}

SessionOptions options() {
  SessionOptions options;
  options.context = 2100;
  options.prefill_chunk = 256;
  return options;
}

std::unique_ptr<Session> session_of(const Engine& engine, const std::vector<int>& ids) {
  auto session = engine.open(KvFormat::of(Backend::turboquant), options());
  session->prefill(ids);
  return session;
}

void remove_left_overs(const std::filesystem::path& folder, int& count) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename() == "session") continue;
    std::filesystem::remove(entry.path());
    ++count;
  }
}

#if defined(__linux__)
/// Runs `save` in a program of its own and kills it at its stop number `stop`: before and after each call of the system
/// it stops. False where it came to its end, or cannot be stopped.
template <class Save>
bool killed_at_stop(int stop, const Save& save) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(1);
    ::raise(SIGSTOP);
    try {
      save();
    } catch (...) {
      ::_exit(2);
    }
    ::_exit(0);
  }
  int status = 0;
  for (int at = -1; at < stop; ++at) {
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (!WIFSTOPPED(status)) {
      CHECK(WIFEXITED(status));
      CHECK(WEXITSTATUS(status) != 2);
      return false;
    }
    REQUIRE(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) == 0);
  }
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (!WIFSTOPPED(status)) return false;
  ::kill(child, SIGKILL);
  while (::waitpid(child, &status, 0) == child && !WIFSIGNALED(status)) {
  }
  return true;
}
#endif

}  // namespace

#if defined(__linux__)
TEST_CASE("a program that is killed at any call of the system while it saves leaves a whole file each time" *
          doctest::skip(test::sanitized)) {
  const TemporaryDirectory model, folder;
  DeviceOptions device;
  device.device = Device::parse("cpu:threads=1");  // a forked program has no others
  const auto engine = Engine::load(Checkpoint::open(write_checkpoint(two_layers(), model.path())), device);
  const auto short_text = text_of(100), long_text = text_of(2000);
  const auto shorter = session_of(*engine, short_text), longer = session_of(*engine, long_text);
  const auto path = folder / "session";

  int found_longer = 0, interrupted = 0, rounds = 0;
  for (bool killed = true; killed; ++rounds) {
    shorter->save(path);
    killed = killed_at_stop(rounds, [&] { longer->save(path); });
    if (rounds == 0 && !killed) {
      MESSAGE("no program may be traced here: skipped");
      return;
    }
    const auto restored = engine->restore(SavedSession::open(path), options());  // every checksum is looked at
    const std::vector<int> ids(restored->ids().begin(), restored->ids().end());
    REQUIRE((ids == short_text || ids == long_text));
    CHECK((killed || ids == long_text));
    found_longer += ids == long_text ? 1 : 0;
    remove_left_overs(folder.path(), interrupted);
  }
  MESSAGE(rounds << " programs; " << interrupted << " left a part of a file behind, " << found_longer
                 << " times the longer session was in place");
  CHECK(interrupted > 0);
  CHECK(found_longer > 1);
  CHECK(found_longer < rounds / 2);
}
#endif
