// One request and its answer.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "server/http/message.h"

namespace tqkv::http {

class ExchangeState;

/// Every method may be called from any thread, and none waits for a socket. A call that makes no sense any more does
/// nothing: a second answer, text behind the end, anything for a client that is gone. An Exchange that is let go
/// without an answer is answered with 500; a stream that was not ended is cut.
class Exchange {
 public:
  explicit Exchange(std::shared_ptr<ExchangeState> state);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const Head& head() const;
  const std::string& body() const;

  /// A whole answer. Throws Error(internal) for headers that are none, and a status that is none.
  void answer(Answer answer);

  /// 200 and a stream of events with the headers of one, and `headers`. `heartbeat` is sent whenever nothing was sent
  /// for a while (Limits::heartbeat). To HTTP/1.0 the stream ends with the connection. Throws as answer() does.
  void begin_stream(Headers headers, std::string heartbeat);
  void send(std::string text);
  void end();

  /// Cuts the connection, so that the client sees that the answer is not whole. What was sent before is tried first.
  void abort();

  /// Bytes of the answer that the client has not taken.
  std::size_t unsent() const;
  /// Whether these are more than Limits::unread_bytes: no more should be sent. A client that takes nothing for
  /// Limits::unread_time is cut.
  bool full() const;

  /// Whether the client has left, or its connection is lost, before the answer was whole.
  bool gone() const;
  /// Called once when that happens, on the thread of the sockets; at once where it has happened. Not called once the
  /// answer was ended here. It may not wait, and must not close the server.
  void on_gone(std::function<void()> callback);

 private:
  std::shared_ptr<ExchangeState> state_;
};

}  // namespace tqkv::http
