// Where a server listens, how it begins and how it ends.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/stopwatch.h"
#include "server/raw_client.h"
#include "server/test_server.h"
#include "support/failure.h"
#include "support/temporary_directory.h"

using namespace tqkv;
using namespace std::chrono_literals;
using test::comes_true;
using test::contains;
using test::failure;
using test::get;
using test::RawClient;
using test::Signal;
using test::TestServer;

namespace {

http::Address unix_address(const std::string& path) {
  http::Address address;
  address.unix_path = path;
  return address;
}

http::Address host_address(const std::string& host, std::uint16_t port = 0) {
  http::Address address;
  address.host = host;
  address.port = port;
  return address;
}

bool has_ipv6() {
  const int descriptor = ::socket(AF_INET6, SOCK_STREAM, 0);
  if (descriptor >= 0) ::close(descriptor);
  return descriptor >= 0;
}

/// A socket's file without a server, as one leaves it that was killed.
void leave_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  ::close(descriptor);
}

}  // namespace

TEST_CASE("an address is written as a client needs it") {
  CHECK(host_address("127.0.0.1", 80).text() == "http://127.0.0.1:80");
  CHECK(host_address("::1", 8080).text() == "http://[::1]:8080");
  CHECK(unix_address("/run/a.sock").text() == "unix:/run/a.sock");
}

TEST_CASE("port 0 is one that is free, and the next server gets another") {
  TestServer one, other;
  CHECK(one->port() != 0);
  CHECK(one->port() != other->port());
  CHECK(one.address().text() == "http://127.0.0.1:" + std::to_string(one->port()));
}

TEST_CASE("a server listens on IPv6 and on every address of a name") {
  if (!has_ipv6()) return;
  TestServer server({}, host_address("::1"));
  RawClient client(server.address());
  client.send(get("/wait"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  CHECK(exchange->head().local);
  CHECK(contains(server.address().text(), "http://[::1]:"));

  TestServer any({}, host_address("::"));
  for (const char* host : {"::1", "127.0.0.1"}) {
    RawClient to_any(host_address(host, any->port()));
    to_any.send(get("/wait"));
    const auto asked = any.next();
    REQUIRE(asked);
    CHECK(asked->head().local);
  }
}

TEST_CASE("localhost is found by its number") {
  TestServer server({}, host_address("localhost"));
  RawClient client(host_address("127.0.0.1", server->port()));
  CHECK(client.ask(get("/now")).status == 200);
}

TEST_CASE("an address that cannot be had is an error with one clear line") {
  TestServer server;
  const auto refuses = [](const http::Address& address) {
    return failure(ErrorKind::io, [&] { TestServer refused({}, address); });
  };
  const std::string in_use = refuses(host_address("127.0.0.1", server->port()));
  CHECK(contains(in_use, server.address().text() + ": another program listens there"));
  CHECK(contains(refuses(host_address("no-such-host.invalid")), "this host is not known here"));
  CHECK(contains(refuses(host_address("")), "this host is not known here"));
  CHECK(contains(refuses(host_address("192.0.2.1")), "this machine does not have this address"));
}

#if defined(__linux__)
TEST_CASE("a port that needs more rights says so") {
  int first = 1024;
  std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> first;
  if (first <= 1) return;  // this system gives every port to everyone
  const uid_t user = ::geteuid();
  if (user == 0) REQUIRE(::seteuid(65534) == 0);
  const std::string message = failure(ErrorKind::io, [&] { TestServer refused({}, host_address("127.0.0.1", 1)); });
  if (user == 0) REQUIRE(::seteuid(0) == 0);
  CHECK(contains(message, "a port below 1024 needs more rights, found 1"));
}
#endif

TEST_CASE("a unix socket is the user's own, and is removed at the end") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder / "a.sock").string();
  {
    TestServer server({}, unix_address(path));
    struct stat found {};
    REQUIRE(::stat(path.c_str(), &found) == 0);
    CHECK((found.st_mode & 0777) == 0600);
    RawClient client(server.address());
    client.send(get("/wait"));
    const auto exchange = server.next();
    REQUIRE(exchange);
    CHECK(exchange->head().local);
    exchange->answer({200, "text/plain", "over a file", {}});
    CHECK(client.answer().body == "over a file");

    Signal gone;
    client.send(get("/wait"));
    const auto left = server.next();
    REQUIRE(left);
    left->on_gone([&] { gone.set(); });
    client.close();
    CHECK(gone.wait());
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("the socket of a dead server is replaced, a living one is refused, and a file is never touched") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder / "a.sock").string();
  leave_socket(path);
  {
    TestServer server({}, unix_address(path));
    RawClient client(server.address());
    CHECK(client.ask(get("/now")).status == 200);
    const std::string message = failure(ErrorKind::io, [&] { TestServer second({}, unix_address(path)); });
    CHECK(contains(message, "unix:" + path + ": another server listens there"));
    CHECK(client.ask(get("/now")).status == 200);
  }
  const auto file = folder.write("b.sock", "precious");
  CHECK(
      contains(failure(ErrorKind::io, [&] { TestServer server({}, unix_address(file)); }), "a file that is no socket"));
  CHECK(std::filesystem::file_size(file) == 8);
  CHECK(
      contains(failure(ErrorKind::io, [&] { TestServer server({}, unix_address((folder / "no/such.sock").string())); }),
               "cannot listen there: No such file"));
  CHECK(
      contains(failure(ErrorKind::io, [&] { TestServer server({}, unix_address(std::string(200, 'a'))); }), "at most"));
}

TEST_CASE("a socket that another server has put in place is left alone") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder / "a.sock").string();
  {
    TestServer server({}, unix_address(path));
    std::filesystem::remove(path);
    leave_socket(path);
  }
  CHECK(std::filesystem::exists(path));
}

TEST_CASE("a server that stops takes nobody new, lets go who rests, and finishes what runs") {
  TestServer server;
  RawClient idle(server.address()), busy(server.address());
  CHECK(idle.ask(get("/now")).status == 200);
  busy.send(get("/wait"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  exchange->begin_stream({}, "");
  busy.receive_until("\r\n\r\n");
  server->stop_accepting();
  server->stop_accepting();
  CHECK(idle.rest().empty());
  CHECK(comes_true([&] {  // its place is free for the next
    try {
      TestServer next({}, server.address());
      return true;
    } catch (const Error&) {
      return false;
    }
  }));
  exchange->send("data: one\n\n");
  exchange->end();
  CHECK(busy.rest() == "b\r\ndata: one\n\n\r\n0\r\n\r\n");
  busy.close();
  CHECK(comes_true([&] { return server->connections() == 0; }));
}

TEST_CASE("a server that closes cuts its streams, tells their owners, and may be closed again") {
  TestServer server;
  std::vector<RawClient> clients;
  std::vector<std::shared_ptr<http::Exchange>> exchanges;
  std::atomic<int> gone{0};
  for (int count = 0; count < 20; ++count) {
    clients.emplace_back(server.address());
    clients.back().send(get("/stream"));
    exchanges.push_back(server.next());
    REQUIRE(exchanges.back());
    exchanges.back()->on_gone([&] { ++gone; });
    if (count % 2 == 0) exchanges.back()->begin_stream({}, ": \n\n");
  }
  std::atomic<bool> stop{false};
  std::thread engine([&] {
    while (!stop)
      for (const auto& exchange : exchanges) exchange->send("data: token\n\n");
  });
  const Stopwatch stopwatch;
  server->close();
  CHECK(stopwatch.seconds() < 1);
  CHECK(gone == 20);
  server->close();
  server->stop_accepting();
  CHECK(server->connections() == 0);
  CHECK(server->exchanges() == 0);
  stop = true;
  engine.join();
  for (const auto& exchange : exchanges) {
    CHECK(exchange->gone());
    exchange->answer({});
    exchange->end();
  }
  for (RawClient& client : clients) CHECK_FALSE(client.rest().ends_with("0\r\n\r\n"));
}

TEST_CASE("exchanges outlive their server") {
  std::shared_ptr<http::Exchange> exchange, other;
  std::vector<RawClient> clients;
  {
    TestServer server;
    for (auto* one : {&exchange, &other}) {
      clients.emplace_back(server.address());
      clients.back().send(get("/wait"));
      *one = server.next();
      REQUIRE(*one);
    }
    other->begin_stream({}, "");
  }
  CHECK(exchange->gone());
  exchange->answer({});
  other->send("data: one\n\n");
  other->end();
  CHECK(exchange->head().path == "/wait");
}

TEST_CASE("a server begins again on the same port, also with connections that have just ended") {
  http::Address address;
  for (int count = 0; count < 5; ++count) {
    TestServer server({}, address);
    address.port = server->port();
    RawClient client(server.address());
    CHECK(client.ask(get("/now")).status == 200);
    client.send(get("/wait"));
    CHECK(server.next());
    server->close();  // the server's side ends first
  }
}

TEST_CASE("signals are not for the server's thread, and writing to a lost connection raises none") {
  struct sigaction before {
  }, now{};
  now.sa_handler = SIG_DFL;
  REQUIRE(::sigaction(SIGPIPE, &now, &before) == 0);
  {
    TestServer server;
    for (int count = 0; count < 50; ++count) {
      RawClient client(server.address());
      client.send(get("/stream"));
      const auto exchange = server.next();
      REQUIRE(exchange);
      exchange->begin_stream({}, "");
      if (count % 2 == 0)
        client.reset();
      else
        client.close();
      for (int events = 0; events < 20; ++events) exchange->send("data: token\n\n");
      exchange->end();
    }
  }
  REQUIRE(::sigaction(SIGPIPE, &before, nullptr) == 0);
}
