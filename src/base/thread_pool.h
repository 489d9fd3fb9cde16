// A pool of threads for many short parallel regions.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace tqkv {

/// Runs numbered tasks on a fixed set of threads. Each worker has an equal part of the numbers and takes it in
/// ascending order, so that tasks over neighbouring memory are one long read; whoever is done goes on with the parts of
/// others. So a task must depend on its number alone. Callers on several threads take turns.
// A cache line for each atomic word, on purpose. NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding)
class ThreadPool {
 public:
  /// `threads` includes the calling thread; 1 runs everything inline.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  int size() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls task(index, worker) for index 0..count-1 and returns when all are done; worker is in 0..size()-1 and unique
  /// among tasks that run at the same time. Tasks must not throw and must not call run().
  template <class Task>
  void run(int count, const Task& task) {
    run_erased(
        count, [](const void* t, int index, int worker) { (*static_cast<const Task*>(t))(index, worker); }, &task);
  }

 private:
  using Call = void (*)(const void*, int index, int worker);
  void run_erased(int count, Call call, const void* task);
  void work(int worker);
  void drain(int worker);
  void end_workers();

  /// The tasks of one worker that are left.
  struct alignas(64) Part {
    std::atomic<int> next{0};
    int end = 0;
  };
  bool enter();
  void leave();

  std::vector<std::thread> workers_;
  std::mutex turn_;
  bool spin_ = true;     // workers spin before they sleep: not when there are more threads than cores
  Call call_ = nullptr;  // these three change only while the gate is closed and nobody is inside
  const void* task_ = nullptr;
  std::vector<Part> parts_;                           // of each worker
  alignas(64) std::atomic<std::uint32_t> gate_{0};    // workers inside the region, and open_ while others may enter
  alignas(64) std::atomic<std::uint32_t> region_{0};  // changes when a region starts or the pool stops; workers wait
  std::atomic<bool> stop_{false};
  static constexpr std::uint32_t open_ = 1u << 31;
};

/// Cores this process may run on: its affinity and the processor quota of its container, at least 1.
int available_cores();

}  // namespace tqkv
