#include "base/thread_pool.h"

#include <fmt/format.h>
#include <algorithm>
#include <chrono>
#include <system_error>

#include "tqkv/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// How a region is handed over. The caller writes the task, opens the gate and takes indices itself. A worker takes
// indices only between enter() and leave(), and can enter only while the gate is open. The caller closes the gate when
// no index is left and waits until nobody is inside; only then may the task change. So no worker can see half a region
// or an old one, and a worker that sleeps through a region delays nobody: progress never depends on a wake-up.

namespace tqkv {
namespace {

constexpr auto spin_time = std::chrono::microseconds(40);

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Waits until `word` differs from `old`: in a loop for a short time, then asleep.
void wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t old, bool spin) {
  if (spin) {
    const auto end = std::chrono::steady_clock::now() + spin_time;
    do {
      for (int i = 0; i < 32; ++i) {
        if (word.load(std::memory_order_acquire) != old) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() < end);
  }
  word.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads)
    : spin_(threads <= available_cores()), parts_(static_cast<std::size_t>(std::max(threads, 1))) {
  workers_.reserve(static_cast<std::size_t>(std::max(threads, 1) - 1));
  try {
    for (int worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { work(worker); });
  } catch (const std::system_error& error) {  // a vector of joinable threads must not be destroyed
    const std::size_t started = workers_.size() + 1;
    end_workers();
    throw Error(ErrorKind::memory,
                fmt::format("threads: the system started {} of {} and refuses more: {}: use --threads "
                            "{}, or raise the limit (ulimit -u)",
                            started, threads, error.code().message(), started));
  }
}

ThreadPool::~ThreadPool() {
  end_workers();
}

void ThreadPool::end_workers() {
  stop_.store(true, std::memory_order_relaxed);
  region_.fetch_add(1, std::memory_order_release);
  region_.notify_all();
  for (auto& thread : workers_) thread.join();
  workers_.clear();
}

void ThreadPool::run_erased(int count, Call call, const void* task) {
  const std::lock_guard lock(turn_);
  if (count <= 1 || workers_.empty()) {
    for (int index = 0; index < count; ++index) call(task, index, 0);
    return;
  }
  call_ = call;
  task_ = task;
  const auto parts = static_cast<std::int64_t>(parts_.size());
  for (std::int64_t part = 0; part < parts; ++part) {
    parts_[static_cast<std::size_t>(part)].next.store(static_cast<int>(part * count / parts),
                                                      std::memory_order_relaxed);
    parts_[static_cast<std::size_t>(part)].end = static_cast<int>((part + 1) * count / parts);
  }
  gate_.store(open_, std::memory_order_release);
  region_.fetch_add(1, std::memory_order_release);
  region_.notify_all();
  drain(0);
  std::uint32_t inside = gate_.fetch_and(~open_, std::memory_order_acq_rel) & ~open_;
  while (inside != 0) {
    wait_for_change(gate_, inside, spin_);
    inside = gate_.load(std::memory_order_acquire);
  }
}

void ThreadPool::drain(int worker) {
  const std::size_t own = static_cast<std::size_t>(worker), parts = parts_.size();
  for (std::size_t k = 0; k < parts; ++k) {
    Part& part = parts_[own + k < parts ? own + k : own + k - parts];
    if (part.next.load(std::memory_order_relaxed) >= part.end) continue;  // leaves the line to its readers
    for (int index = part.next.fetch_add(1, std::memory_order_relaxed); index < part.end;
         index = part.next.fetch_add(1, std::memory_order_relaxed))
      call_(task_, index, worker);
  }
}

bool ThreadPool::enter() {
  std::uint32_t gate = gate_.load(std::memory_order_relaxed);
  while (gate & open_)
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel, std::memory_order_relaxed)) return true;
  return false;
}

void ThreadPool::leave() {
  // While the gate is open nobody waits on it; once it is closed every leaver changes what the caller waits for.
  if (!(gate_.fetch_sub(1, std::memory_order_acq_rel) & open_)) gate_.notify_one();
}

void ThreadPool::work(int worker) {
  std::uint32_t seen = 0;
  while (true) {
    wait_for_change(region_, seen, spin_);
    seen = region_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    if (enter()) {
      drain(worker);
      leave();
    }
  }
}

}  // namespace tqkv
