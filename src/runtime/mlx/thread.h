// The one thread of an engine that speaks with MLX: its streams belong to the thread that made them.
#pragma once
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace tqkv::mlx {

class MlxThread {
 public:
  MlxThread();
  ~MlxThread();
  MlxThread(const MlxThread&) = delete;
  MlxThread& operator=(const MlxThread&) = delete;

  /// Runs `task` there and waits for it; at once where it is called on that thread. Tasks of several callers run one
  /// after the other. What the task throws comes back: an Error as it is, anything of MLX as Error(internal).
  void run(const std::function<void()>& task);

 private:
  void loop();

  std::mutex callers_;  // one task at a time
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* task_ = nullptr;
  std::exception_ptr problem_;
  bool done_ = false, ended_ = false;
  std::thread thread_;
};

}  // namespace tqkv::mlx
