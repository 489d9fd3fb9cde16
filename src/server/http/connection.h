// One connection: reads requests one after the other, and writes their answers. On the thread of the sockets alone.
#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>  // Boost 1.74 wants it before Asio

#include <boost/asio/error.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "server/http/exchange_state.h"
#include "server/http/limits.h"
#include "server/http/request_parser.h"
#include "server/http/server.h"

namespace tqkv::http {

/// What a client may send ahead of its answers, and what an output keeps of its memory, in bytes.
constexpr std::size_t most_ahead = std::size_t{64} << 10;

inline bool must_wait(const boost::system::error_code& code) {
  return code == boost::asio::error::would_block || code == boost::asio::error::try_again ||
         code == boost::asio::error::interrupted;
}

/// What connections share.
struct Shared {
  Shared(const Limits& its_limits, Callbacks its_callbacks) : limits(its_limits), callbacks(std::move(its_callbacks)) {}

  const Limits limits;
  const Callbacks callbacks;
  boost::asio::io_context io{1};
  std::shared_ptr<Inbox> inbox;
  std::shared_ptr<std::atomic<std::size_t>> bodies = std::make_shared<std::atomic<std::size_t>>(0);
  std::atomic<std::size_t> exchanges{0};
  bool stopping = false;  ///< connections end with their answer
  std::string scratch = std::string(std::size_t{64} << 10, '\0');
  std::function<void(Connection&)> closed;  ///< forgets a connection
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;
  using Socket = boost::asio::generic::stream_protocol::socket;

  /// Takes the descriptor. `refused`: there are too many, so the answer is 503 before anything is read.
  Connection(Shared& shared, int descriptor, bool local);
  ~Connection();
  void start(bool refused);
  /// The caller has given something for the exchange under way.
  void pump();
  /// The server takes no more: ends when at rest.
  void stop();
  /// Cuts it, and the exchange under way with it.
  void cut();

 private:
  enum class Phase { head, body, answering, lingering, closed };

  void guarded(void (Connection::*step)());
  void wait_readable();
  void read();
  void found_end();
  void parse();
  bool parse_some();
  void check_request();
  void begin_exchange();
  void refuse(int status, std::string_view message);
  void take();
  void write_answer(const Answer& answer);
  void write_stream_head(const Headers& headers);
  void write_chunk(std::string_view text);
  void end_stream();
  void flush();
  void go_on();
  void finish();
  void leave_exchange();
  void close();

  std::size_t unsent() const { return out_.size() - out_at_; }
  std::optional<Clock::time_point> due() const;
  void arm();
  void ring();
  void give_up();

  Shared& shared_;
  Socket socket_;
  boost::asio::steady_timer timer_;
  const bool local_;

  Phase phase_ = Phase::head;
  Clock::time_point since_ = Clock::now();  ///< of the phase; of a head: of its first byte
  Clock::time_point wrote_ = since_;        ///< the last progress of the output
  std::optional<Clock::time_point> armed_;  ///< when the timer rings

  std::string in_;  ///< read, not parsed
  std::unique_ptr<RequestParser> parser_;
  std::shared_ptr<BodyShare> share_;
  std::shared_ptr<ExchangeState> state_;
  std::string out_, heartbeat_;
  std::size_t out_at_ = 0;  ///< of out_, sent
  bool reading_ = false, writing_ = false;
  bool ended_by_client_ = false;  ///< nothing more comes
  bool keep_ = false;             ///< the connection outlives this answer
  bool headless_ = false;         ///< HEAD: no body
  bool http_10_ = false, chunked_ = false, streaming_ = false;
  bool whole_ = false;  ///< all of the answer is in out_
};

/// For an answer that the server gives itself.
Answer error_answer(const Callbacks& callbacks, int status, std::string_view message);

}  // namespace tqkv::http
