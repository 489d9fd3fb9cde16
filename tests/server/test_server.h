// A server whose exchanges a test answers itself.
#pragma once
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/http/server.h"

namespace tqkv::test {

/// Waits for what another thread does; false when it does not within five seconds.
class Signal {
 public:
  void set();
  bool wait();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool set_ = false;
};

class TestServer {
 public:
  /// /now/… is answered with method, path, query and body at once; all else waits for next(). A check refuses /refused.
  explicit TestServer(const http::Limits& limits = {}, const http::Address& address = {});
  ~TestServer();
  http::Server& operator*() { return *server_; }
  http::Server* operator->() { return server_.get(); }
  const http::Address& address() const { return server_->address(); }
  /// The next exchange that waits, or null when none comes within five seconds.
  std::shared_ptr<http::Exchange> next();
  std::size_t waiting();

 private:
  void handle(std::shared_ptr<http::Exchange> exchange);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<http::Exchange>> waiting_;
  std::unique_ptr<http::Server> server_;
};

/// Whether `condition` comes true within five seconds; looked at again and again.
bool comes_true(const std::function<bool()>& condition);

}  // namespace tqkv::test
