// serve-http [STREAMS [EVENTS [SECONDS]]]: what the HTTP server itself costs. STREAMS clients, in a process of their
// own, each get EVENTS a second (0: silence, and a heartbeat each second). Prints what the server took of a core, how
// late events came, and its memory.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/memory_info.h"
#include "server/http/server.h"

using namespace tqkv;
using Clock = std::chrono::steady_clock;

namespace {

double processor_seconds(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

long microseconds_now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch()).count();
}

/// A connection that has asked, or -1.
int asked(std::uint16_t port) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  constexpr std::string_view request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
  if (::connect(descriptor, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 ||
      ::write(descriptor, request.data(), request.size()) < 0)
    return -1;
  return descriptor;
}

/// Reads all streams until they end, and prints how long events were under way: each tells when it was sent.
void be_clients(std::uint16_t port, int streams) {
  std::vector<std::string> texts(static_cast<std::size_t>(streams));
  std::vector<pollfd> ready;
  for (int count = 0; count < streams; ++count) ready.push_back({asked(port), POLLIN, 0});
  std::vector<double> late;
  long heartbeats = 0;
  std::array<char, 65536> bytes;
  for (std::size_t open = ready.size(); open > 0;) {
    ::poll(ready.data(), ready.size(), -1);
    const long now = microseconds_now();
    for (std::size_t at = 0; at < ready.size(); ++at) {
      if (ready[at].revents == 0) continue;
      std::string& text = texts[at];
      const ssize_t count = ::read(ready[at].fd, bytes.data(), bytes.size());
      if (count > 0) text.append(bytes.data(), static_cast<std::size_t>(count));
      for (std::size_t end = text.find("\n\n"); end != std::string::npos; end = text.find("\n\n")) {
        if (const std::size_t data = text.find("data: "); data < end) {
          long sent = 0;
          std::from_chars(text.data() + data + 6, text.data() + end, sent);
          late.push_back(static_cast<double>(now - sent) / 1000);
        } else {
          ++heartbeats;
        }
        text.erase(0, end + 2);
      }
      if (count <= 0 || text.find("\r\n0\r\n") != std::string::npos) {
        ready[at].fd = -1;
        --open;
      }
    }
  }
  std::sort(late.begin(), late.end());
  const auto quantile = [&](double share) {
    return late.empty() ? 0.0 : late[static_cast<std::size_t>(share * static_cast<double>(late.size() - 1))];
  };
  fmt::print("{} events, late by {:.2f} ms (median), {:.2f} ms (p99), {:.2f} ms (most); {} heartbeats\n", late.size(),
             quantile(0.5), quantile(0.99), quantile(1), heartbeats);
}

int run(int streams, int events, int seconds) {
  std::mutex mutex;
  std::vector<std::shared_ptr<http::Exchange>> exchanges;
  http::Callbacks callbacks;
  callbacks.handle = [&](std::shared_ptr<http::Exchange> exchange) {
    const std::lock_guard lock(mutex);
    exchange->begin_stream({}, ": \n\n");
    exchanges.push_back(std::move(exchange));
  };
  http::Limits limits;
  limits.connections = static_cast<std::size_t>(streams);
  std::array<int, 2> pipe{};
  if (::pipe(pipe.data()) != 0) return 1;
  const pid_t clients = ::fork();  // before the server's thread is there
  if (clients == 0) {
    std::uint16_t port = 0;
    if (::read(pipe[0], &port, sizeof port) != sizeof port) ::_exit(1);
    be_clients(port, streams);
    std::fflush(stdout);
    ::_exit(0);
  }
  const std::uint64_t memory_before = anonymous_memory();
  http::Server server({}, limits, callbacks);
  const std::uint16_t port = server.port();
  if (::write(pipe[1], &port, sizeof port) != sizeof port) return 1;
  while (server.exchanges() < static_cast<std::size_t>(streams))
    std::this_thread::sleep_for(std::chrono::milliseconds(10));

  const double before = processor_seconds(RUSAGE_SELF);
  const auto start = Clock::now();
  const int steps = std::max(events, 1) * seconds;
  for (int step = 1; step <= steps; ++step) {  // as an engine does: a token for everyone each step
    std::this_thread::sleep_until(start + std::chrono::microseconds(1'000'000L * step / std::max(events, 1)));
    if (events > 0)
      for (const auto& exchange : exchanges) exchange->send(fmt::format("data: {}\n\n", microseconds_now()));
  }
  const double took = processor_seconds(RUSAGE_SELF) - before;
  const double passed = std::chrono::duration<double>(Clock::now() - start).count();
  fmt::print("{} streams, {} events/s each, {:.1f} s: {:.1f}% of a core, {:.1f} MB more memory\n", streams, events,
             passed, 100 * took / passed, static_cast<double>(anonymous_memory() - memory_before) / 1e6);
  std::fflush(stdout);
  for (const auto& exchange : exchanges) exchange->end();
  int status = 0;
  ::waitpid(clients, &status, 0);
  return status == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** texts) {
  const auto number = [&](int at, int otherwise) { return at < count ? std::atoi(texts[at]) : otherwise; };
  return run(std::max(number(1, 64), 1), std::max(number(2, 100), 0), std::max(number(3, 5), 1));
}
