// A program that is killed while it saves leaves the file as it was before, or as it should be: nothing between.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>
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

}  // namespace

TEST_CASE("200 programs killed at random points while they save leave a whole file each time" *
          doctest::skip(test::sanitized)) {
  const TemporaryDirectory model, folder;
  DeviceOptions device;
  device.device = Device::parse("cpu:threads=1");  // a forked program has no others
  const auto engine = Engine::load(Checkpoint::open(write_checkpoint(two_layers(), model.path())), device);
  const auto short_text = text_of(100), long_text = text_of(2000);
  const auto shorter = session_of(*engine, short_text), longer = session_of(*engine, long_text);
  const auto path = folder / "session";
  shorter->save(path);
  const auto start = std::chrono::steady_clock::now();
  longer->save(path);
  const double one_save = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  std::mt19937 random(1);
  int found_longer = 0, interrupted = 0;
  for (int round = 0; round < 200; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {  // saves the one and the other until it is killed
      try {
        while (true) {
          shorter->save(path);
          longer->save(path);
        }
      } catch (...) {
      }
      ::_exit(1);
    }
    // Somewhere in the first three saves.
    const double wait = one_save * 3 * std::uniform_real_distribution<double>()(random);
    const timespec pause{static_cast<time_t>(wait),
                         static_cast<long>((wait - static_cast<double>(static_cast<time_t>(wait))) * 1e9)};
    ::nanosleep(&pause, nullptr);
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));

    const auto restored = engine->restore(SavedSession::open(path), options());  // every checksum is looked at
    const std::vector<int> ids(restored->ids().begin(), restored->ids().end());
    REQUIRE((ids == short_text || ids == long_text));
    found_longer += ids == long_text ? 1 : 0;
    remove_left_overs(folder.path(), interrupted);
  }
  MESSAGE("one save takes " << one_save * 1e3 << " ms; " << interrupted << " were interrupted, " << found_longer
                            << " times the longer session was in place");
  CHECK(interrupted > 0);
  CHECK(found_longer > 0);
  CHECK(found_longer < 200);
}
