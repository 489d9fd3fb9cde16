// The half of a connection that writes.
#include <fmt/format.h>

#include <iterator>

#include "server/http/connection.h"
#include "server/http/write_head.h"

namespace tqkv::http {
namespace {

namespace asio = boost::asio;
using Code = boost::system::error_code;

}  // namespace

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

}  // namespace tqkv::http
