// An HTTP/1.1 server: sockets, limits, deadlines, streams and clients that leave. It knows nothing of what is asked and
// answered. All sockets share one thread, which never waits for a caller, and callers never wait for a socket.
//
// A client that ends its side of the connection counts as gone, as with most servers, unless its answer is whole by
// then. What it has sent behind a request is kept for later (the first 64 KB; the rest waits), and is no sign that it
// left.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "server/http/address.h"
#include "server/http/exchange.h"
#include "server/http/limits.h"
#include "server/http/message.h"

namespace tqkv::http {

/// What a server asks its owner, on the thread of the sockets: none may wait. What one throws becomes a 500.
struct Callbacks {
  /// When the headers are there and the body is not: an answer refuses the request. May be empty.
  std::function<std::optional<Answer>(const Head&)> check;
  /// The request is whole.
  std::function<void(std::shared_ptr<Exchange>)> handle;
  /// The answer for an error that the server found itself: 400, 408, 413, 417, 431, 500, 501 or 503. Empty: plain text.
  std::function<Answer(int status, std::string_view message)> error_body;
};

class Server {
 public:
  /// Listens when it is made. Throws Error(io) as Listening does, or when there is no thread.
  Server(const Address& address, const Limits& limits, Callbacks callbacks);
  /// Closes.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// With the port that was chosen.
  const Address& address() const;
  std::uint16_t port() const { return address().port; }
  std::size_t connections() const;
  /// Requests that are being answered.
  std::size_t exchanges() const;

  /// No new connections: those at rest are closed, and the others when their answer is sent. Returns at once.
  void stop_accepting();
  /// Cuts every connection, calls back those whose exchanges were under way, and ends the thread. Not from a callback.
  void close();

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace tqkv::http
