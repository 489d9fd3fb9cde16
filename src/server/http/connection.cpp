#include "server/http/connection.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <iterator>

#include "server/http/write_head.h"

namespace tqkv::http {
namespace {

namespace asio = boost::asio;
using Code = boost::system::error_code;

constexpr std::size_t most_ahead = std::size_t{64} << 10;

bool must_wait(const Code& code) {
  return code == asio::error::would_block || code == asio::error::try_again || code == asio::error::interrupted;
}

}  // namespace

Answer error_answer(const Callbacks& callbacks, int status, std::string_view message) {
  try {
    if (callbacks.error_body) {
      Answer answer = callbacks.error_body(status, message);
      require_headers(answer.headers);
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
    if (refusal) require_headers(refusal->headers);
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

/// Steps that end an answer do not begin the next: their callers go on.
void Connection::pump() {
  guarded(&Connection::take);
  go_on();
}

/// Writes what the caller has given.
void Connection::take() {
  if (!state_) return;
  Outgoing given = state_->take();
  const std::size_t before = unsent();
  if (before == 0) wrote_ = Clock::now();
  if (given.abandoned) {
    keep_ = false;
    given.answer = error_answer(shared_.callbacks, 500, "the request was not answered");
  }
  if (given.answer) write_answer(*given.answer);
  if (given.stream) {
    heartbeat_ = std::move(given.heartbeat);
    write_stream_head(*given.stream);
  }
  if (!given.text.empty()) write_chunk(given.text);
  if (given.ended) end_stream();
  state_->unsent += unsent() - before;
  state_->unsent -= given.text.size();
  if (given.aborted) {
    Code ignored;
    if (unsent() > 0) socket_.send(asio::buffer(out_.data() + out_at_, unsent()), 0, ignored);
    return cut();
  }
  flush();
}

void Connection::write_answer(const Answer& answer) {
  whole_ = true;
  write_head(out_, answer.status, answer.headers, keep_ ? "keep-alive" : "close");
  if (!answer.content_type.empty()) write_header(out_, "Content-Type", answer.content_type);
  const bool without = answer.status == 204 || answer.status == 304;
  if (!without) write_header(out_, "Content-Length", std::to_string(answer.body.size()));
  out_ += "\r\n";
  if (!without && !headless_) out_ += answer.body;
}

void Connection::write_stream_head(const Headers& headers) {
  chunked_ = !http_10_;
  keep_ = keep_ && chunked_;
  write_head(out_, 200, headers, keep_ ? "keep-alive" : "close");
  write_header(out_, "Content-Type", "text/event-stream");
  write_header(out_, "Cache-Control", "no-store");
  write_header(out_, "X-Accel-Buffering", "no");
  if (chunked_) write_header(out_, "Transfer-Encoding", "chunked");
  out_ += "\r\n";
  streaming_ = !headless_;
  whole_ = headless_;
}

void Connection::write_chunk(std::string_view text) {
  if (!streaming_) return;
  if (out_at_ > most_ahead && out_at_ > out_.size() / 2) out_.erase(0, std::exchange(out_at_, 0));
  if (chunked_) fmt::format_to(std::back_inserter(out_), "{:x}\r\n", text.size());
  out_ += text;
  if (chunked_) out_ += "\r\n";
}

void Connection::end_stream() {
  if (streaming_ && chunked_) out_ += "0\r\n\r\n";
  whole_ = true;
}

/// Sends as much as the client takes; the rest when it takes more.
void Connection::flush() {
  if (writing_ || phase_ == Phase::closed) return;
  while (unsent() > 0) {
    Code code;
    const std::size_t count = socket_.send(asio::buffer(out_.data() + out_at_, unsent()), 0, code);
    if (must_wait(code)) {
      writing_ = true;
      socket_.async_wait(Socket::wait_write, [self = shared_from_this()](const Code& failed) {
        self->writing_ = false;
        if (failed) return;
        self->guarded(&Connection::flush);
        self->go_on();
      });
      return arm();
    }
    if (code) return cut();
    out_at_ += count;
    wrote_ = Clock::now();
    if (state_) state_->unsent -= count;
  }
  out_.clear();
  out_at_ = 0;
  if (out_.capacity() > most_ahead) out_.shrink_to_fit();
  if (whole_) return finish();
  arm();
}

/// After an answer: what came behind its request.
void Connection::go_on() {
  guarded(&Connection::parse);
  guarded(&Connection::wait_readable);
}

/// The answer has been sent.
void Connection::finish() {
  leave_exchange();
  if (phase_ == Phase::closed) return;
  parser_.reset();
  share_.reset();
  whole_ = streaming_ = chunked_ = headless_ = http_10_ = false;
  since_ = Clock::now();
  if (ended_by_client_) return close();
  phase_ = keep_ ? Phase::head : Phase::lingering;
  if (phase_ == Phase::lingering) {  // closed at once, a connection with unread input would lose the answer
    in_.clear();
    Code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
  }
  arm();
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
