// Several things at once, watched from the thread that asked for them.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <vector>

#include "base/joined_thread.h"
#include "hub/settings.h"
#include "tqkv/error.h"

namespace tqkv::hub {

/// Runs `work(worker, item)` for every item from 0 to `items`, in order, by `workers` threads, while this thread calls
/// `watch` ten times a second and once at the end. The first exception makes the stop fail and is thrown here when all
/// have ended; a Stopped only when nothing worse was thrown.
inline void for_all(std::size_t items, std::size_t workers, Stop& stop,
                    const std::function<void(std::size_t, std::size_t)>& work, const std::function<void()>& watch) {
  std::mutex mutex;
  std::condition_variable ended;
  std::size_t next = 0, running = 0;
  std::exception_ptr failure;
  bool only_stopped = false;
  const auto loop = [&](std::size_t worker) {
    std::unique_lock lock(mutex);
    while (next < items && !failure) {
      const std::size_t item = next++;
      lock.unlock();
      std::exception_ptr thrown;
      bool was_stop = false;
      try {
        work(worker, item);
      } catch (const Stopped&) {
        thrown = std::current_exception();
        was_stop = true;
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      if (!thrown) continue;
      if (!failure || (only_stopped && !was_stop)) {
        failure = thrown;
        only_stopped = was_stop;
      }
      stop.fail();
    }
    --running;
    ended.notify_one();
  };
  std::vector<JoinedThread> threads;
  {
    const std::unique_lock lock(mutex);
    threads.reserve(std::min(workers, items));
    try {
      for (std::size_t worker = 0; worker < workers && worker < items; ++worker) {
        threads.emplace_back(loop, worker);
        ++running;
      }
    } catch (const std::system_error& error) {  // those that started do the work of all
      if (threads.empty())
        throw Error(ErrorKind::io,
                    fmt::format("downloads: the system starts no thread for them: {}: end other programs, "
                                "or raise the limit (ulimit -u)",
                                error.code().message()));
    }
  }
  {
    std::unique_lock lock(mutex);
    while (running > 0) {
      ended.wait_for(lock, std::chrono::milliseconds(100));
      lock.unlock();
      try {
        watch();
      } catch (...) {
        stop.fail();
        throw;  // the threads see the stop, and are joined
      }
      lock.lock();
    }
  }
  threads.clear();
  watch();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace tqkv::hub
