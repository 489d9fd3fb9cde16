// What a request's two sides share: the caller, on any thread, and the connection, on the thread of the sockets.
#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "server/http/message.h"

namespace tqkv::http {

class Connection;
class ExchangeState;

/// The exchanges that have something for their connections. The first one since the last take() wakes the sockets.
class Inbox {
 public:
  explicit Inbox(std::function<void()> wake) : wake_(std::move(wake)) {}
  void push(std::shared_ptr<ExchangeState> state);
  std::vector<std::shared_ptr<ExchangeState>> take();
  /// Nothing is taken or woken any more.
  void close();

 private:
  std::mutex mutex_;
  std::function<void()> wake_;
  std::vector<std::shared_ptr<ExchangeState>> ready_;
};

/// A share of the memory for bodies, given back at the end.
class BodyShare {
 public:
  explicit BodyShare(std::shared_ptr<std::atomic<std::size_t>> total) : total_(std::move(total)) {}
  ~BodyShare() { *total_ -= bytes_; }
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;
  /// Whether all shares together are within `limit` with this one at `bytes`.
  bool grow(std::size_t bytes, std::size_t limit) {
    *total_ += bytes - bytes_;
    bytes_ = bytes;
    return *total_ <= limit;
  }

 private:
  std::shared_ptr<std::atomic<std::size_t>> total_;
  std::size_t bytes_ = 0;
};

/// What the caller has given since the connection looked last.
struct Outgoing {
  std::optional<Answer> answer;
  std::optional<Headers> stream;  ///< it begins, with these headers
  std::string heartbeat;
  std::string text;
  bool ended = false;
  bool aborted = false;
  bool abandoned = false;  ///< let go by the caller
};

class ExchangeState : public std::enable_shared_from_this<ExchangeState> {
 public:
  ExchangeState(Head head, std::string body, std::shared_ptr<BodyShare> share, std::size_t unread_bytes,
                const std::shared_ptr<Inbox>& inbox);

  const Head head;
  const std::string body;
  const std::size_t unread_bytes;
  std::atomic<std::size_t> unsent{0};
  std::atomic<bool> gone{false};

  // For the caller.
  void answer(Answer answer);
  void begin_stream(Headers headers, std::string heartbeat);
  void send(std::string text);
  void end();
  void abort();
  void abandon();
  void on_gone(std::function<void()> callback);

  // For the connection.
  Connection* connection;  ///< null when it has finished with this exchange
  Outgoing take();
  /// The connection has finished with it. Calls back where the answer is not whole: the client is gone.
  void leave(bool whole);

 private:
  enum class Phase { waiting, streaming, finished };
  /// Gives `change` to the connection, where the phase is `phase` and the client is there.
  template <class Change>
  void give(Phase phase, Phase next, const Change& change);

  std::shared_ptr<BodyShare> share_;
  std::weak_ptr<Inbox> inbox_;
  std::mutex mutex_;
  Phase phase_ = Phase::waiting;
  bool queued_ = false;
  Outgoing outgoing_;
  std::function<void()> on_gone_;
};

}  // namespace tqkv::http
