#include "runtime/mlx/thread.h"

#include <new>
#include <string>

#include "runtime/mlx/mlx.h"
#include "tqkv/error.h"

namespace tqkv::mlx {

MlxThread::MlxThread() : thread_([this] { loop(); }) {}

MlxThread::~MlxThread() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void MlxThread::run(const std::function<void()>& task) {
  if (std::this_thread::get_id() == thread_.get_id()) return task();
  const std::lock_guard alone(callers_);
  std::unique_lock lock(mutex_);
  task_ = &task;
  done_ = false;
  problem_ = nullptr;
  changed_.notify_all();
  changed_.wait(lock, [this] { return done_; });
  if (problem_) std::rethrow_exception(problem_);
}

void MlxThread::loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return task_ || ended_; });
    if (!task_) break;
    const std::function<void()>& task = *task_;
    lock.unlock();
    std::exception_ptr problem;
    try {
      task();
    } catch (const Error&) {
      problem = std::current_exception();
    } catch (const std::bad_alloc&) {
      problem = std::current_exception();
    } catch (const std::exception& error) {
      problem = std::make_exception_ptr(Error(ErrorKind::internal, std::string("mlx: ") + error.what()));
    }
    lock.lock();
    problem_ = problem;
    task_ = nullptr;
    done_ = true;
    changed_.notify_all();
  }
  lock.unlock();
  mx::clear_streams();
}

}  // namespace tqkv::mlx
