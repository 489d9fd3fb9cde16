#include "server/http/server.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <set>
#include <system_error>
#include <utility>  // Boost 1.74 wants it before Asio
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>

#include "base/joined_thread.h"
#include "server/http/connection.h"
#include "tqkv/error.h"

namespace tqkv::http {
namespace {

namespace asio = boost::asio;
using Code = boost::system::error_code;

constexpr std::size_t most_refused = 64;  // connections beyond the limit that are told so, at a time
constexpr auto accept_pause = std::chrono::milliseconds(100);

/// A thread that gets no signals: they are for the thread that waits for them.
JoinedThread quiet_thread(std::function<void()> run) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    JoinedThread thread(std::move(run));
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
  } catch (const std::system_error& error) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw Error(ErrorKind::io, fmt::format("the server cannot start its thread: {}", error.what()));
  }
}

}  // namespace

class Server::Loop {
 public:
  Loop(const Address& address, const Limits& limits, Callbacks callbacks)
      : shared_(limits, std::move(callbacks)), listening_(address), address_(listening_.address()) {
    shared_.inbox = std::make_shared<Inbox>([this] { asio::post(shared_.io, [this] { deliver(); }); });
    shared_.closed = [this](Connection& connection) {
      connections_.erase(connection.shared_from_this());
      open_ = connections_.size();
    };
    for (const int descriptor : listening_.descriptors())
      acceptors_.push_back(std::make_unique<Acceptor>(shared_.io, descriptor));
    for (const auto& acceptor : acceptors_) wait(*acceptor);
    try {
      thread_.emplace(quiet_thread([this] { run(); }));
    } catch (...) {
      stop();
      throw;
    }
  }

  ~Loop() { close(); }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  const Address& address() const { return address_; }
  std::size_t connections() const { return open_; }
  std::size_t exchanges() const { return shared_.exchanges; }

  void stop_accepting() {
    asio::post(shared_.io, [this] { stop(); });
  }

  void close() {
    const std::lock_guard lock(closing_);
    if (!thread_) return;
    asio::post(shared_.io, [this] { end(); });
    thread_.reset();  // waits for it
    shared_.inbox->close();
  }

 private:
  struct Acceptor {
    Acceptor(asio::io_context& io, int descriptor) : socket(io, descriptor), pause(io) {}
    asio::posix::stream_descriptor socket;
    asio::steady_timer pause;
  };

  void run() {
    while (true) {
      try {
        shared_.io.run();
        return;
      } catch (...) {  // no memory for a handler: what it would have done is not done, and the others continue
      }
    }
  }

  void deliver() {
    for (const auto& state : shared_.inbox->take())
      if (state->connection) state->connection->shared_from_this()->pump();
  }

  void wait(Acceptor& acceptor) {
    acceptor.socket.async_wait(asio::posix::stream_descriptor::wait_read, [this, &acceptor](const Code& code) {
      if (!code && !shared_.stopping) accept(acceptor);
    });
  }

  void accept(Acceptor& acceptor) {
    for (int count = 0; count < 64; ++count) {
      bool local = false;
      const int descriptor = accept_from(acceptor.socket.native_handle(), shared_.limits.unread_time, local);
      if (descriptor >= 0) {
        take_in(descriptor, local);
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        acceptor.pause.expires_after(accept_pause);  // it stays readable, and trying again at once would only burn time
        acceptor.pause.async_wait([this, &acceptor](const Code& code) {
          if (!code && !shared_.stopping) wait(acceptor);
        });
        return;
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        break;
      }
    }
    wait(acceptor);
  }

  void take_in(int descriptor, bool local) {
    if (connections_.size() >= shared_.limits.connections + most_refused) {
      ::close(descriptor);
      return;
    }
    const bool refused = connections_.size() >= shared_.limits.connections;
    std::shared_ptr<Connection> connection;
    try {
      connection = std::make_shared<Connection>(shared_, descriptor, local);
    } catch (...) {
      ::close(descriptor);
      return;
    }
    try {
      connections_.insert(connection);
      open_ = connections_.size();
      connection->start(refused);
    } catch (...) {
      connection->cut();
    }
  }

  void stop() {
    if (!std::exchange(shared_.stopping, true)) {
      for (const auto& acceptor : acceptors_) {
        acceptor->pause.cancel();
        acceptor->socket.release();  // closed by its owner
      }
      listening_.close();
    }
    for (const auto& connection : std::set(connections_)) connection->stop();
  }

  void end() {
    stop();
    for (const auto& connection : std::set(connections_)) connection->cut();
    work_.reset();
  }

  Shared shared_;
  Listening listening_;
  const Address address_;
  std::set<std::shared_ptr<Connection>> connections_;
  std::atomic<std::size_t> open_{0};
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{shared_.io.get_executor()};
  std::mutex closing_;
  std::optional<JoinedThread> thread_;
};

Server::Server(const Address& address, const Limits& limits, Callbacks callbacks)
    : loop_(std::make_unique<Loop>(address, limits, std::move(callbacks))) {}

Server::~Server() {
  close();
}

const Address& Server::address() const {
  return loop_->address();
}

std::size_t Server::connections() const {
  return loop_->connections();
}

std::size_t Server::exchanges() const {
  return loop_->exchanges();
}

void Server::stop_accepting() {
  loop_->stop_accepting();
}

void Server::close() {
  loop_->close();
}

}  // namespace tqkv::http
