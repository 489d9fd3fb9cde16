// Streams of events: what a client gets and when, and what happens when it does not read.
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "base/stopwatch.h"
#include "server/raw_client.h"
#include "server/test_server.h"
#include "support/failure.h"

using namespace tqkv;
using namespace std::chrono_literals;
using test::comes_true;
using test::contains;
using test::get;
using test::RawClient;
using test::Signal;
using test::TestServer;

TEST_CASE("a stream has its headers at once, its events as they come, and an end") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/stream"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  exchange->begin_stream({{"X-Id", "7"}}, "");
  const std::string head = client.receive_until("\r\n\r\n");
  CHECK(head.starts_with("HTTP/1.1 200 OK\r\n"));
  for (const char* header : {"Content-Type: text/event-stream", "Cache-Control: no-store", "X-Accel-Buffering: no",
                             "Transfer-Encoding: chunked", "Connection: keep-alive", "X-Id: 7"})
    CHECK(contains(head, header));
  exchange->send("data: one\n\n");
  CHECK(client.receive_until("data: one\n\n\r\n") == "b\r\ndata: one\n\n\r\n");
  exchange->send("");  // nothing, and not the end
  exchange->send("data: two\n\n");
  CHECK(client.receive_until("data: two\n\n\r\n") == "b\r\ndata: two\n\n\r\n");
  exchange->end();
  exchange->send("late");
  exchange->end();
  CHECK(client.receive_until("0\r\n\r\n") == "0\r\n\r\n");
  CHECK(client.ask(get("/now")).body == "GET /now? ");
  CHECK_FALSE(exchange->gone());
}

TEST_CASE("a stream that is made at once is whole") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/stream") + get("/now"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  exchange->begin_stream({}, "");
  std::string all;
  for (int count = 0; count < 1000; ++count) {
    const std::string event = "data: " + std::to_string(count) + "\n\n";
    exchange->send(event);
    all += event;
  }
  exchange->end();
  const auto answer = client.answer();
  CHECK(answer.whole);
  CHECK((answer.body == all));
  CHECK(client.answer().body == "GET /now? ");
}

TEST_CASE("many threads send at once, and nothing is lost or mixed") {
  TestServer server;
  std::vector<RawClient> clients;
  std::vector<std::shared_ptr<http::Exchange>> exchanges;
  for (int count = 0; count < 16; ++count) {
    clients.emplace_back(server.address());
    clients.back().send(get("/stream"));
    exchanges.push_back(server.next());
    REQUIRE(exchanges.back());
    exchanges.back()->begin_stream({}, "");
  }
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread)
    threads.emplace_back([&] {
      for (int count = 0; count < 500; ++count)
        for (const auto& exchange : exchanges) exchange->send("data: event\n\n");
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& exchange : exchanges) exchange->end();
  std::string expected;
  for (int count = 0; count < 2000; ++count) expected += "data: event\n\n";
  for (RawClient& client : clients) CHECK((client.answer().body == expected));
}

TEST_CASE("a stream that is silent has a heartbeat, and none while it speaks") {
  http::Limits limits;
  limits.heartbeat = 40ms;
  TestServer server(limits);
  RawClient client(server.address());
  client.send(get("/stream"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  exchange->begin_stream({}, ": \n\n");
  client.receive_until("\r\n\r\n");
  const Stopwatch stopwatch;
  for (int count = 0; count < 3; ++count) CHECK(client.receive_until("\n\n\r\n") == "4\r\n: \n\n\r\n");
  CHECK(stopwatch.seconds() > 0.1);
  CHECK(stopwatch.seconds() < 1);
  exchange->end();
  CHECK(client.receive_until("0\r\n\r\n") == "0\r\n\r\n");
}

TEST_CASE("HTTP/1.0 gets a stream without chunks, which ends with the connection") {
  TestServer server;
  RawClient client(server.address());
  client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const auto exchange = server.next();
  REQUIRE(exchange);
  exchange->begin_stream({}, "");
  exchange->send("data: one\n\n");
  exchange->send("data: two\n\n");
  exchange->end();
  const auto answer = client.answer();
  CHECK(answer.headers.count("transfer-encoding") == 0);
  CHECK(answer.headers.at("connection") == "close");
  CHECK(answer.body == "data: one\n\ndata: two\n\n");
}

TEST_CASE("an aborted stream ends without its last chunk, and one that is let go as well") {
  TestServer server;
  for (const bool let_go : {false, true}) {
    RawClient client(server.address());
    client.send(get("/stream"));
    auto exchange = server.next();
    REQUIRE(exchange);
    exchange->begin_stream({}, "");
    exchange->send("data: one\n\n");
    if (!let_go) exchange->abort();
    exchange.reset();
    const std::string all = client.rest();
    CHECK(contains(all, "data: one\n\n"));
    CHECK_FALSE(all.ends_with("0\r\n\r\n"));
  }
  CHECK(comes_true([&] { return server->connections() == 0 && server->exchanges() == 0; }));
}

TEST_CASE("a client that reads nothing fills its own stream, keeps nobody waiting, and is cut") {
  http::Limits limits;
  limits.unread_bytes = 200'000;
  limits.unread_time = 1s;
  TestServer server(limits);
  RawClient deaf(server.address(), 4096);
  deaf.send(get("/stream"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  Signal gone;
  exchange->on_gone([&] { gone.set(); });
  exchange->begin_stream({}, ": \n\n");
  const std::string event = "data: " + std::string(1000, 'x') + "\n\n";
  std::size_t sent = 0;
  while (exchange->unsent() < 1'000'000 && sent < 10'000'000) {  // more than the system takes of it
    exchange->send(event);
    sent += event.size();
  }
  CHECK(exchange->full());
  RawClient other(server.address());
  const Stopwatch stopwatch;
  CHECK(other.ask(get("/now")).status == 200);
  CHECK(stopwatch.seconds() < 0.8);
  CHECK(gone.wait());
  CHECK(exchange->gone());
  CHECK(stopwatch.seconds() < 4);
}

TEST_CASE("a client that reads slowly gets everything") {
  http::Limits limits;
  limits.unread_bytes = 100'000;
  TestServer server(limits);
  RawClient client(server.address(), 4096);
  client.send(get("/stream"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  exchange->begin_stream({}, "");
  const std::string event = "data: " + std::string(10'000, 'x') + "\n\n";
  int events = 0;
  while (exchange->unsent() < 1'000'000 && events < 1000) {
    exchange->send(event);
    ++events;
  }
  CHECK(exchange->full());
  std::thread reader([&] {
    const auto answer = client.answer();
    CHECK(answer.whole);
    CHECK(answer.body.size() == static_cast<std::size_t>(events) * event.size());
  });
  CHECK(comes_true([&] { return !exchange->full(); }));
  exchange->end();
  reader.join();
  CHECK(comes_true([&] { return exchange->unsent() == 0; }));
}

TEST_CASE("an answer that is asked for late has its own time to be read") {
  http::Limits limits;
  limits.unread_time = 100ms;
  TestServer server(limits);
  RawClient client(server.address(), 4096);
  client.send(get("/wait"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  CHECK_FALSE(client.readable(200));
  const std::string body(2'000'000, 'x');
  exchange->answer({200, "text/plain", body, {}});
  CHECK((client.answer().body == body));
}

TEST_CASE("300 silent streams live side by side, and each gets its own") {
  http::Limits limits;
  limits.heartbeat = 100ms;
  TestServer server(limits);
  std::vector<RawClient> clients;
  std::vector<std::shared_ptr<http::Exchange>> exchanges;
  for (int count = 0; count < 300; ++count) {
    clients.emplace_back(server.address());
    clients.back().send(get("/stream"));
    exchanges.push_back(server.next());
    REQUIRE(exchanges.back());
    exchanges.back()->begin_stream({}, ": \n\n");
  }
  CHECK(server->connections() == 300);
  CHECK(server->exchanges() == 300);
  for (RawClient& client : clients) CHECK(contains(client.receive_until(": \n\n"), "200 OK"));
  for (std::size_t at = 0; at < exchanges.size(); ++at) {
    exchanges[at]->send("data: " + std::to_string(at) + "\n\n");
    exchanges[at]->end();
  }
  for (std::size_t at = 0; at < clients.size(); ++at)
    CHECK(contains(clients[at].receive_until("0\r\n\r\n"), "data: " + std::to_string(at) + "\n\n"));
}
