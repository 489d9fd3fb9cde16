#include "server/http/connection.h"

#include <sys/socket.h>

namespace tqkv::http {
namespace {

namespace asio = boost::asio;
using Code = boost::system::error_code;

}  // namespace

Answer error_answer(const Callbacks& callbacks, int status, std::string_view message) {
  try {
    if (callbacks.error_body) {
      Answer answer = callbacks.error_body(status, message);
      require_answer(answer);
      return answer;
    }
  } catch (...) {  // the plain one is as good
  }
  return {status, "text/plain; charset=utf-8", std::string(message) + "\n", {}};
}

Connection::Connection(Shared& shared, int descriptor, bool local)
    : shared_(shared),
      socket_(shared.io, asio::generic::stream_protocol(AF_INET, 0), descriptor),
      timer_(shared.io),
      local_(local) {
  Code ignored;
  socket_.non_blocking(true, ignored);
}

Connection::~Connection() = default;

void Connection::start(bool refused) {
  if (refused)
    refuse(503, "too many connections are open here; try again later");
  else
    arm();
  wait_readable();
}

/// What a step throws ends this connection, and no other.
void Connection::guarded(void (Connection::*step)()) {
  if (phase_ == Phase::closed) return;
  try {
    (this->*step)();
  } catch (...) {
    cut();
  }
}

/// A pending wait notices data as well as the end of the connection. A client that sends far ahead of its answers
/// waits: that it left is noticed when something is written to it.
void Connection::wait_readable() {
  if (reading_ || ended_by_client_ || phase_ == Phase::closed) return;
  if (phase_ == Phase::answering && in_.size() >= most_ahead) return;
  reading_ = true;
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](const Code& code) {
    self->reading_ = false;
    if (!code) self->guarded(&Connection::read);
  });
}

void Connection::read() {
  Code code;
  std::string& scratch = shared_.scratch;
  const std::size_t count = socket_.read_some(asio::buffer(scratch), code);
  if (code == asio::error::eof) return found_end();
  if (code && !must_wait(code)) return cut();
  if (count > 0 && phase_ != Phase::lingering) {
    const bool first = phase_ == Phase::head && in_.empty() && !parser_;
    in_.append(scratch, 0, count);
    if (first) {
      since_ = Clock::now();
      arm();
    }
    parse();
  }
  wait_readable();
}

/// The client has ended its side.
void Connection::found_end() {
  ended_by_client_ = true;
  switch (phase_) {
    case Phase::head:
      if (in_.empty() && !parser_) return close();
      return refuse(400, "the request ended before its headers did");
    case Phase::body:
      return refuse(400, "the request ended before its body did");
    case Phase::answering:
      if (!whole_) return cut();
      return;  // the answer is on its way
    case Phase::lingering:
      return close();
    case Phase::closed:
      return;
  }
}

/// Reads what is there, request after request, as long as answers come at once.
void Connection::parse() {
  try {
    while (phase_ == Phase::head || phase_ == Phase::body)
      if (!parse_some()) break;
  } catch (const Refusal& refusal) {
    refuse(refusal.status, refusal.message);
  }
}

/// Whether something was done.
bool Connection::parse_some() {
  if (in_.empty()) return false;
  if (!parser_) parser_ = std::make_unique<RequestParser>(shared_.limits);
  const std::size_t count = parser_->put(in_);
  in_.erase(0, count);
  if (phase_ == Phase::head && parser_->at() != RequestParser::At::head) check_request();
  if (phase_ == Phase::body) {
    if (!share_) share_ = std::make_shared<BodyShare>(shared_.bodies);
    if (!share_->grow(parser_->body().size(), shared_.limits.all_bodies))
      throw Refusal{503, "the bodies of all requests take too much memory; try again later"};
    if (parser_->at() == RequestParser::At::end)
      begin_exchange();
    else if (count == 0 && in_.size() > shared_.limits.header_bytes)
      throw Refusal{400, "a line of a chunked body is too long"};
  }
  return count > 0;
}

/// The headers are there.
void Connection::check_request() {
  Head& head = parser_->head();
  head.local = local_;
  keep_ = parser_->keep_alive() && !shared_.stopping;
  http_10_ = head.http_10;
  headless_ = head.method == "HEAD";
  const bool has_body = parser_->at() == RequestParser::At::body;
  const std::string_view expected = head.header("Expect");
  if (!expected.empty() && !same_name(expected, "100-continue"))
    throw Refusal{417, "no other Expect than 100-continue is known here"};
  std::optional<Answer> refusal;
  try {
    if (shared_.callbacks.check) refusal = shared_.callbacks.check(head);
    if (refusal) require_answer(*refusal);
  } catch (...) {
    throw Refusal{500, "the request could not be checked"};
  }
  if (refusal) {
    keep_ = keep_ && !has_body;  // a body that is not read is none of the next request
    phase_ = Phase::answering;
    write_answer(*refusal);
    return flush();
  }
  phase_ = Phase::body;
  since_ = Clock::now();
  arm();
  if (has_body && !expected.empty() && !head.http_10 && in_.empty()) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    flush();
  }
}

void Connection::begin_exchange() {
  phase_ = Phase::answering;
  state_ = std::make_shared<ExchangeState>(std::move(parser_->head()), std::move(parser_->body()), std::move(share_),
                                           shared_.limits.unread_bytes, shared_.inbox);
  parser_.reset();
  if (in_.empty()) in_.shrink_to_fit();  // streams last: they keep no memory of their requests
  state_->connection = this;
  state_->unsent = unsent();
  ++shared_.exchanges;
  wrote_ = Clock::now();
  const auto state = state_;
  try {
    shared_.callbacks.handle(std::make_shared<Exchange>(state));
  } catch (...) {
    state->abandon();
  }
  if (state_ == state) take();
}

/// An error that the server found: the last answer of this connection.
void Connection::refuse(int status, std::string_view message) {
  keep_ = false;
  phase_ = Phase::answering;
  write_answer(error_answer(shared_.callbacks, status, message));
  flush();
}

/// Steps that end an answer do not begin the next: their callers continue.
void Connection::pump() {
  guarded(&Connection::take);
  go_on();
}

/// After an answer: what came behind its request.
void Connection::go_on() {
  guarded(&Connection::parse);
  guarded(&Connection::wait_readable);
}

void Connection::stop() {
  if (phase_ == Phase::head && in_.empty() && !parser_) return close();
  keep_ = false;
}

void Connection::cut() {
  leave_exchange();
  close();
}

void Connection::leave_exchange() {
  if (!state_) return;
  const auto state = std::exchange(state_, nullptr);
  state->connection = nullptr;
  --shared_.exchanges;
  try {
    state->leave(whole_);
  } catch (...) {  // of a callback: nobody is left to tell
  }
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  timer_.cancel();
  Code ignored;
  socket_.close(ignored);
  shared_.closed(*this);
}

std::optional<Connection::Clock::time_point> Connection::due() const {
  const Limits& limits = shared_.limits;
  switch (phase_) {
    case Phase::head:
      return since_ + (in_.empty() && !parser_ ? limits.idle_time : limits.header_time);
    case Phase::body:
      return since_ + limits.body_time;
    case Phase::answering:
      if (unsent() > 0) return wrote_ + limits.unread_time;
      if (streaming_ && !heartbeat_.empty()) return wrote_ + limits.heartbeat;
      return std::nullopt;
    case Phase::lingering:
      return since_ + limits.linger_time;
    case Phase::closed:
      break;
  }
  return std::nullopt;
}

/// The timer rings no later than what is due, and looks again when it rings too early: progress costs nothing.
void Connection::arm() {
  const auto when = due();
  if (!when || (armed_ && *armed_ <= *when)) return;
  armed_ = when;
  timer_.expires_at(*when);
  timer_.async_wait([self = shared_from_this()](const Code& code) {
    if (code) return;
    self->armed_.reset();
    self->guarded(&Connection::ring);
  });
}

void Connection::ring() {
  const auto when = due();
  if (when && Clock::now() >= *when) give_up();
  if (phase_ != Phase::closed) arm();
}

/// What is due has come.
void Connection::give_up() {
  switch (phase_) {
    case Phase::head:
      if (in_.empty() && !parser_) return close();
      return refuse(408, "the headers did not come in time");
    case Phase::body:
      return refuse(408, "the body did not come in time");
    case Phase::answering:
      if (unsent() > 0) return cut();
      write_chunk(heartbeat_);
      if (state_) state_->unsent += unsent();
      return flush();
    case Phase::lingering:
      return close();
    case Phase::closed:
      return;
  }
}

}  // namespace tqkv::http
