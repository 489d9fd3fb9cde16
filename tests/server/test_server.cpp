#include "server/test_server.h"

#include <fmt/format.h>

#include <thread>

namespace tqkv::test {
namespace {

constexpr std::chrono::seconds patience{5};

http::Answer error_body(int status, std::string_view message) {
  return {status, "application/json", fmt::format(R"({{"error":"{}"}})", message), {}};
}

}  // namespace

void Signal::set() {
  const std::lock_guard lock(mutex_);
  set_ = true;
  changed_.notify_all();
}

bool Signal::wait() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [&] { return set_; });
}

TestServer::TestServer(const http::Limits& limits, const http::Address& address) {
  http::Callbacks callbacks;
  callbacks.check = [](const http::Head& head) -> std::optional<http::Answer> {
    if (head.path == "/refused") return http::Answer{403, "text/plain", "refused", {{"X-Why", "a test"}}};
    if (head.path == "/throws-early") throw std::runtime_error("a check that fails");
    return std::nullopt;
  };
  callbacks.handle = [this](std::shared_ptr<http::Exchange> exchange) { handle(std::move(exchange)); };
  callbacks.error_body = error_body;
  server_ = std::make_unique<http::Server>(address, limits, std::move(callbacks));
}

TestServer::~TestServer() {
  server_->close();  // before what its callbacks use
}

void TestServer::handle(std::shared_ptr<http::Exchange> exchange) {
  const http::Head& head = exchange->head();
  if (head.path == "/throws") throw std::runtime_error("a handler that fails");
  if (head.path.starts_with("/now")) {
    exchange->answer(
        {200, "text/plain", fmt::format("{} {}?{} {}", head.method, head.path, head.query, exchange->body()), {}});
    return;
  }
  const std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(exchange));
  changed_.notify_all();
}

std::shared_ptr<http::Exchange> TestServer::next() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, patience, [&] { return !waiting_.empty(); })) return nullptr;
  auto exchange = std::move(waiting_.front());
  waiting_.pop_front();
  return exchange;
}

std::size_t TestServer::waiting() {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

bool comes_true(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace tqkv::test
