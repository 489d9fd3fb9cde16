// What a server takes, for how long it waits, and that nothing a client sends harms another.
#include <doctest/doctest.h>
#include <rapidcheck.h>

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
using test::post;
using test::RawClient;
using test::TestServer;

namespace {

/// The status of the last answer of a connection, which then ends.
int refused(TestServer& server, const std::string& bytes) {
  RawClient client(server.address());
  client.send(bytes);
  const auto answer = client.answer();
  CHECK(answer.whole);
  CHECK(answer.headers.at("connection") == "close");
  CHECK(contains(answer.body, R"({"error":")"));
  client.rest();
  return answer.status;
}

bool alive(TestServer& server) {
  RawClient client(server.address());
  return client.ask(get("/now")).status == 200;
}

}  // namespace

TEST_CASE("headers beyond the limits are 431") {
  http::Limits limits;
  limits.header_bytes = 1000;
  limits.headers = 10;
  TestServer server(limits);
  std::string ten = "A: 1\r\n", eleven;
  for (int count = 0; count < 8; ++count) ten += "B: 2\r\n";
  eleven = ten + "C: 3\r\n";
  RawClient client(server.address());
  CHECK(client.ask(get("/now", ten)).status == 200);  // with Host
  CHECK(refused(server, get("/now", eleven)) == 431);
  CHECK(client.ask(get("/now", "A: " + std::string(900, 'a') + "\r\n")).status == 200);
  CHECK(refused(server, get("/now", "A: " + std::string(1000, 'a') + "\r\n")) == 431);
  CHECK(refused(server, get("/now/" + std::string(1000, 'a'))) == 431);
  CHECK(refused(server, "GET /" + std::string(5000, 'a')) == 431);  // without an end
  CHECK(refused(server, std::string(5000, 'A')) == 431);
}

TEST_CASE("100,000 headers are refused, however they come") {
  TestServer server;
  std::string headers;
  for (int count = 0; count < 100'000; ++count) headers += "X-Header-" + std::to_string(count) + ": value\r\n";
  CHECK(refused(server, get("/now", headers)) == 431);

  RawClient client(server.address());  // one line a packet
  client.send("GET /now HTTP/1.1\r\nHost: here\r\n");
  for (int lines = 0; lines < 1000; ++lines) client.send("X: y\r\n");
  client.send("\r\n");
  CHECK(client.answer().status == 431);
}

TEST_CASE("headers that come line by line are counted together") {
  http::Limits limits;
  limits.headers = 1'000'000;
  limits.header_bytes = 4096;
  TestServer server(limits);
  RawClient client(server.address());
  client.send("GET /now HTTP/1.1\r\nHost: here\r\n");
  std::size_t sent = 0;
  while (sent < 1'000'000 && !client.readable(1)) {
    client.send("X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n");
    sent += 58;
  }
  CHECK(sent < 20'000);
  CHECK(client.answer().status == 431);
}

TEST_CASE("a body beyond the limit is 413, with a length and in endless chunks") {
  http::Limits limits;
  limits.body_bytes = 1000;
  TestServer server(limits);
  RawClient client(server.address());
  CHECK(client.ask(post("/now", std::string(1000, 'a'))).status == 200);
  CHECK(refused(server, post("/now", std::string(1001, 'a'))) == 413);
  CHECK(refused(server, "POST /now HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551615\r\n\r\n") == 413);

  const std::string head = "POST /now HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  RawClient endless(server.address());
  endless.send(head);
  std::size_t sent = 0;
  while (sent < 10'000'000 && !endless.readable(0)) {
    endless.send("64\r\n" + std::string(100, 'a') + "\r\n");
    sent += 100;
  }
  CHECK(endless.answer().status == 413);
  CHECK(sent < 10'000'000);
  CHECK(refused(server, head + "7fffffffffffffff\r\n") == 413);
  CHECK(refused(server, head + "1;" + std::string(100'000, 'x')) == 400);     // a line without an end
  CHECK(refused(server, head + "0\r\n" + std::string(100'000, 'x')) == 400);  // a trailer without one
  std::string trailers;
  for (int count = 0; count < 200; ++count) trailers += "T: x\r\n";
  CHECK(refused(server, head + "0\r\n" + trailers + "\r\n") == 431);
}

TEST_CASE("the bodies of all requests together are bounded") {
  http::Limits limits;
  limits.all_bodies = 10'000;
  TestServer server(limits);
  RawClient first(server.address());
  first.send(post("/wait", std::string(6'000, 'a')));
  auto exchange = server.next();
  REQUIRE(exchange);
  CHECK(refused(server, post("/now", std::string(6'000, 'a'))) == 503);
  exchange->answer({});
  exchange.reset();
  CHECK(first.answer().status == 200);
  CHECK(comes_true([&] {
    RawClient client(server.address());
    return client.ask(post("/now", std::string(6'000, 'a'))).status == 200;
  }));
}

TEST_CASE("a length that is not clear is 400, and what follows is not taken for a request") {
  TestServer server;
  const std::string head = "POST /now HTTP/1.1\r\nHost: here\r\n";
  CHECK(refused(server, head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get("/wait")) ==
        400);
  CHECK(refused(server, head + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + get("/wait")) ==
        400);
  CHECK(refused(server, head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody" + get("/wait")) == 400);
  CHECK(refused(server, head + "Content-Length: -1\r\n\r\n" + get("/wait")) == 400);
  CHECK(refused(server, head + "Content-Length: 4x\r\n\r\nbody" + get("/wait")) == 400);
  CHECK(refused(server, head + "Content-Length: 99999999999999999999\r\n\r\n" + get("/wait")) == 400);
  CHECK(refused(server, head + "Transfer-Encoding: gzip\r\n\r\nbody" + get("/wait")) == 501);
  CHECK(refused(server, head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + get("/wait")) == 501);
  CHECK(refused(server, head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + get("/wait")) == 501);
  CHECK(refused(server, head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") == 400);
  CHECK(refused(server, head + "Transfer-Encoding: chunked\r\n\r\nnot a size\r\n" + get("/wait")) == 400);
  CHECK(refused(server, "POST /now HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get("/wait")) == 501);
  CHECK(server.waiting() == 0);
}

TEST_CASE("what is no HTTP/1.1 is 400, at once") {
  TestServer server;
  const Stopwatch stopwatch;
  CHECK(refused(server, std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11)) == 400);  // TLS
  CHECK(refused(server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == 400);
  CHECK(refused(server, "GET /\r\n\r\n") == 400);
  CHECK(refused(server, "GET / FTP/1.1\r\n\r\n") == 400);
  CHECK(refused(server, "GET /a b HTTP/1.1\r\nHost: here\r\n\r\n") == 400);
  CHECK(refused(server, "GET / HTTP/1.1\r\nHost here\r\n\r\n") == 400);
  CHECK(refused(server, "GET / HTTP/1.1\r\nHost : here\r\n\r\n") == 400);
  CHECK(refused(server, "GET / HTTP/1.1\r\n\r\n") == 400);  // no Host
  CHECK(refused(server, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n") == 400);
  CHECK(stopwatch.seconds() < 2);
}

TEST_CASE("a request that ends early is 400, and a connection without one ends in silence") {
  TestServer server;
  for (const std::string& bytes :
       {std::string("GET / HT"), get("/now").substr(0, 20), post("/now", "abc").substr(0, 54)}) {
    RawClient client(server.address());
    client.send(bytes);
    client.shut_down_writing();
    CHECK(client.answer().status == 400);
    CHECK(client.rest().empty());
  }
  RawClient client(server.address());
  client.shut_down_writing();
  CHECK(client.rest().empty());
  CHECK(comes_true([&] { return server->connections() == 0; }));
}

TEST_CASE("slow headers and bodies are 408, drip as they may, and an idle connection ends in silence") {
  http::Limits limits;
  limits.header_time = limits.body_time = 100ms;
  limits.idle_time = 150ms;
  limits.linger_time = 50ms;
  TestServer server(limits);
  for (const std::string& start :
       {std::string("GET /now HTTP/1.1\r\nHost: "), post("/now", std::string(500, 'a')).substr(0, 70)}) {
    RawClient client(server.address());
    const Stopwatch stopwatch;
    client.send(start);
    while (!client.readable(5)) client.send("x");
    CHECK(client.answer().status == 408);
    CHECK(stopwatch.seconds() < 1);
    client.rest();
  }
  RawClient silent(server.address());
  CHECK(silent.rest().empty());
  RawClient idle(server.address());
  CHECK(idle.ask(get("/now")).status == 200);
  CHECK(idle.rest().empty());
  CHECK(comes_true([&] { return server->connections() == 0; }));
}

TEST_CASE("200 connections that drip do not keep another waiting") {
  http::Limits limits;
  limits.header_time = 1s;
  TestServer server(limits);
  std::vector<RawClient> slow;
  for (int count = 0; count < 200; ++count) {
    slow.emplace_back(server.address());
    slow.back().send("GET / HT");
  }
  const Stopwatch stopwatch;
  CHECK(alive(server));
  CHECK(stopwatch.seconds() < 0.8);
  for (std::size_t at = 0; at < slow.size(); ++at) {
    CAPTURE(at);
    CHECK(slow[at].answer().status == 408);
  }
}

TEST_CASE("a connection beyond the limit is told so with 503, and a place that comes free is taken") {
  http::Limits limits;
  limits.connections = 3;
  limits.linger_time = 50ms;
  TestServer server(limits);
  std::vector<RawClient> clients;
  for (int count = 0; count < 3; ++count) {
    clients.emplace_back(server.address());
    CHECK(clients.back().ask(get("/now")).status == 200);
  }
  CHECK(refused(server, get("/now")) == 503);
  CHECK(clients.front().ask(get("/now")).status == 200);
  clients.pop_back();
  CHECK(comes_true([&] { return alive(server); }));
}

TEST_CASE("a flood of connections leaves the server as it was") {
  http::Limits limits;
  limits.connections = 20;
  limits.linger_time = 50ms;
  TestServer server(limits);
  {
    std::vector<RawClient> clients;
    for (int count = 0; count < 300; ++count) clients.emplace_back(server.address());
    CHECK(server->connections() <= 84);
  }
  CHECK(comes_true([&] { return alive(server); }));
  CHECK(comes_true([&] { return server->connections() == 0; }));
}

TEST_CASE("a client that sends without end after a refusal is let go") {
  http::Limits limits;
  limits.body_bytes = 1000;
  limits.linger_time = 100ms;
  TestServer server(limits);
  RawClient client(server.address());
  client.send("POST /now HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n");
  const std::string piece(100'000, 'x');
  const Stopwatch stopwatch;
  while (client.send(piece) && stopwatch.seconds() < 5) {
  }
  CHECK(stopwatch.seconds() < 2);
  CHECK(comes_true([&] { return server->connections() == 0; }));
}

TEST_CASE("any bytes are refused or answered, and the next request is answered") {
  http::Limits limits;
  limits.header_time = limits.body_time = limits.idle_time = limits.linger_time = 20ms;
  TestServer server(limits);
  const auto well = rc::check([&] {
    std::string bytes = *rc::gen::container<std::string>(rc::gen::arbitrary<char>());
    const std::string before = *rc::gen::element<std::string>(
        "", "GET ", "GET / HTTP/1.1\r\n", get("/now").substr(0, get("/now").size() - 2), post("/now", "").substr(0, 20),
        "POST /now HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", get("/now"));
    RawClient client(server.address());
    client.send(before + bytes);
    if (*rc::gen::arbitrary<bool>()) client.shut_down_writing();
    client.rest();
    RC_ASSERT(alive(server));
  });
  CHECK(well);
}
