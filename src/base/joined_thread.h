// std::jthread without its stop tokens: libc++ 16 and Apple's do not have it.
#pragma once
#include <thread>
#include <type_traits>
#include <utility>

namespace tqkv {

/// A thread that is joined when its owner ends. Starting one throws std::system_error where the system allows no more.
class JoinedThread {
 public:
  template <class Function, class... Arguments>
  requires std::is_invocable_v<Function, Arguments...>
  explicit JoinedThread(Function&& function, Arguments&&... arguments)
      : thread_(std::forward<Function>(function), std::forward<Arguments>(arguments)...) {}
  JoinedThread(JoinedThread&&) = default;
  JoinedThread& operator=(JoinedThread&&) = delete;
  ~JoinedThread() {
    if (thread_.joinable()) thread_.join();
  }

  void join() { thread_.join(); }

 private:
  std::thread thread_;
};

}  // namespace tqkv
