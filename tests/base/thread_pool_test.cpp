#include "base/thread_pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

using tqkv::ThreadPool;

namespace {

/// Runs `regions` regions of different sizes and counts every task; true when each ran exactly once.
bool each_task_runs_once(ThreadPool& pool, int regions) {
  std::vector<int> runs;  // not atomic: two runs of a task at once are a data race that sanitizers see
  for (int region = 0; region < regions; ++region) {
    const int count = (region * 7) % 41;
    runs.assign(static_cast<std::size_t>(count), 0);
    pool.run(count, [&](int index, int) { ++runs[static_cast<std::size_t>(index)]; });
    for (const int n : runs)
      if (n != 1) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("every task of every region runs exactly once, whatever the number of threads") {
  for (const int threads : {1, 2, 3, 8}) {
    CAPTURE(threads);
    ThreadPool pool(threads);
    CHECK(pool.size() == threads);
    CHECK(each_task_runs_once(pool, 3000));
  }
}

TEST_CASE("what tasks write is seen by the caller, and what the caller writes by the next tasks") {
  ThreadPool pool(4);
  std::vector<long> values(64, 1);
  for (int region = 0; region < 500; ++region) {
    const long before = std::accumulate(values.begin(), values.end(), 0L);
    pool.run(64, [&](int index, int) { values[static_cast<std::size_t>(index)] += before; });
    REQUIRE(std::accumulate(values.begin(), values.end(), 0L) == before + 64 * before);
    for (long& value : values) value %= 1000003;
  }
}

TEST_CASE("two tasks that run at the same time never have the same worker number") {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<int> clashes{0}, out_of_range{0};
  const auto region = [&] {
    for (int round = 0; round < 200; ++round)
      for (const int count : {1, 2, 16})  // one task runs inline: on the caller's number too
        pool.run(count, [&](int, int worker) {
          if (worker < 0 || worker >= 4) return void(++out_of_range);
          if (busy[static_cast<std::size_t>(worker)].fetch_add(1) != 0) ++clashes;
          busy[static_cast<std::size_t>(worker)].fetch_sub(1);
        });
  };
  std::thread other(region);
  region();
  other.join();
  CHECK(clashes == 0);
  CHECK(out_of_range == 0);
}

TEST_CASE("callers on several threads take turns and all are served") {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<long> total{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      for (int round = 0; round < 300; ++round) {
        std::atomic<long> sum{0};
        pool.run(10, [&](int index, int) { sum += index; });
        total += sum;
      }
    });
  for (auto& caller : callers) caller.join();
  CHECK(total == 4 * 300 * 45);
}

TEST_CASE("workers that have gone to sleep take part again") {
  // Both tasks wait for each other, so that this ends only when the worker wakes up for each region.
  ThreadPool pool(2);
  for (int region = 0; region < 20; ++region) {
    std::atomic<int> arrived{0};
    pool.run(2, [&](int, int) {
      arrived.fetch_add(1);
      arrived.notify_all();
      for (int seen = arrived.load(); seen < 2; seen = arrived.load()) arrived.wait(seen);
    });
    CHECK(arrived == 2);
    // Long enough on this thread for the worker to stop spinning.
    volatile unsigned work = 0;
    for (unsigned i = 0; i < 200000; ++i) work = work + i;
  }
}

TEST_CASE("a worker begins with its own part of the tasks, and helps with the others") {
  ThreadPool pool(2);
  constexpr int count = 9;
  std::vector<int> worker_of(count, -1);
  std::atomic<int> begun{-1};  // what the other worker took first
  pool.run(count, [&](int index, int worker) {
    worker_of[static_cast<std::size_t>(index)] = worker;
    if (worker == 1) {
      int nothing = -1;
      begun.compare_exchange_strong(nothing, index);
      begun.notify_all();
      return;
    }
    begun.wait(-1);
  });
  CHECK(begun.load() == count / 2);
  CHECK(worker_of[0] == 0);
  CHECK(std::count(worker_of.begin(), worker_of.end(), -1) == 0);
}

TEST_CASE("no task and no region are fine") {
  ThreadPool pool(2);
  int runs = 0;
  pool.run(0, [&](int, int) { ++runs; });
  CHECK(runs == 0);
  { const ThreadPool unused(4); }
  CHECK(tqkv::available_cores() >= 1);
}
