// Requests and answers: what a client sees of an ordinary exchange.
#include <doctest/doctest.h>

#include <string>
#include <thread>

#include "server/raw_client.h"
#include "server/test_server.h"
#include "support/failure.h"

using namespace tqkv;
using test::comes_true;
using test::contains;
using test::get;
using test::post;
using test::RawClient;
using test::TestServer;

TEST_CASE("a GET is answered, and the connection serves the next one") {
  TestServer server;
  RawClient client(server.address());
  for (int count = 0; count < 3; ++count) {
    const auto answer = client.ask(get("/now/a%20b?x=1&y"));
    CHECK(answer.line == "HTTP/1.1 200 OK");
    CHECK(answer.headers.at("content-type") == "text/plain");
    CHECK(answer.headers.at("connection") == "keep-alive");
    CHECK(answer.headers.at("date").ends_with(" GMT"));
    CHECK(answer.body == "GET /now/a%20b?x=1&y ");
  }
  CHECK(server->connections() == 1);
}

TEST_CASE("a body comes with a length, in chunks, or in pieces of one byte") {
  TestServer server;
  RawClient client(server.address());
  CHECK(client.ask(post("/now", "hello")).body == "POST /now? hello");
  CHECK(client.ask(post("/now", "")).body == "POST /now? ");
  const std::string chunked =
      "POST /now HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;name=value\r\nhello\r\n00007\r\n, world\r\n0\r\nTrailer: not a header\r\n\r\n";
  CHECK(client.ask(chunked).body == "POST /now? hello, world");
  for (const char byte : chunked) REQUIRE(client.send({&byte, 1}));
  CHECK(client.answer().body == "POST /now? hello, world");
}

TEST_CASE("headers are found in any case, and the first of a name counts") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/wait", "X-One: 1\r\nx-one: 2\r\nEmpty:\r\n"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  CHECK(exchange->head().header("x-ONE") == "1");
  CHECK(exchange->head().header("host") == "here");
  CHECK(exchange->head().header("Empty").empty());
  CHECK(exchange->head().header("None").empty());
  CHECK(exchange->head().headers.size() == 4);
  CHECK(exchange->head().local);
  exchange->answer({204, "", "", {}});
  const auto answer = client.answer(false);
  CHECK(answer.line == "HTTP/1.1 204 No Content");
  CHECK(answer.headers.count("content-length") == 0);
  CHECK(client.ask(get("/now")).status == 200);
}

TEST_CASE("requests that are sent ahead are answered in order, and are no sign that the client left") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/now/1") + get("/first") + post("/now/2", "body") + get("/second"));
  CHECK(client.answer().body == "GET /now/1? ");
  const auto first = server.next();
  REQUIRE(first);
  CHECK(server.waiting() == 0);
  CHECK_FALSE(first->gone());
  first->answer({200, "text/plain", "the first", {}});
  CHECK(client.answer().body == "the first");
  CHECK(client.answer().body == "POST /now/2? body");
  const auto second = server.next();
  REQUIRE(second);
  second->answer({200, "text/plain", "the second", {}});
  CHECK(client.answer().body == "the second");
}

TEST_CASE("a thousand requests in one write are answered") {
  TestServer server;
  RawClient client(server.address());
  std::string requests;
  for (int count = 0; count < 1000; ++count) requests += get("/now/" + std::to_string(count));
  client.send(requests);
  for (int count = 0; count < 1000; ++count)
    REQUIRE(client.answer().body == "GET /now/" + std::to_string(count) + "? ");
}

TEST_CASE("what a client sends far ahead waits in its own connection") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/wait"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  const std::string body(3'000'000, 'b');
  std::thread ahead([&] { client.send(post("/now", body)); });
  RawClient other(server.address());
  CHECK(other.ask(get("/now")).status == 200);
  CHECK_FALSE(exchange->gone());
  exchange->answer({200, "text/plain", "done", {}});
  CHECK(client.answer().body == "done");
  CHECK((client.answer().body == "POST /now? " + body));
  ahead.join();
}

TEST_CASE("HEAD gets the headers of the answer, and the connection stays in step") {
  TestServer server;
  RawClient client(server.address());
  client.send("HEAD /now HTTP/1.1\r\nHost: here\r\n\r\n");
  const auto answer = client.answer(false);
  CHECK(answer.status == 200);
  CHECK(answer.headers.at("content-length") == std::to_string(std::string("HEAD /now? ").size()));
  CHECK(client.ask(get("/now")).body == "GET /now? ");

  client.send("HEAD /stream HTTP/1.1\r\nHost: here\r\n\r\n");
  const auto exchange = server.next();
  REQUIRE(exchange);
  exchange->begin_stream({}, ": \n\n");
  CHECK(client.answer(false).headers.at("content-type") == "text/event-stream");
  exchange->send("not sent");
  exchange->end();
  CHECK(client.ask(get("/now")).body == "GET /now? ");
  CHECK_FALSE(exchange->gone());
}

TEST_CASE("OPTIONS and methods that are not known reach the owner") {
  TestServer server;
  RawClient client(server.address());
  client.send("OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\n");
  const auto exchange = server.next();
  REQUIRE(exchange);
  CHECK(exchange->head().method == "OPTIONS");
  CHECK(exchange->head().path == "*");
  client.close();
  RawClient other(server.address());
  CHECK(other.ask("BREW /now HTTP/1.1\r\nHost: here\r\n\r\n").body == "BREW /now? ");
}

TEST_CASE("a request as proxies send it has its path") {
  TestServer server;
  RawClient client(server.address());
  CHECK(client.ask(get("http://example.org:80/now/path?a=http://b")).body == "GET /now/path?a=http://b ");
  client.send(get("HTTP://example.org?a"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  CHECK(exchange->head().path == "/");
  CHECK(exchange->head().query == "a");
}

TEST_CASE("a check refuses before the body is read") {
  TestServer server;
  RawClient client(server.address());
  const auto first = client.ask(get("/refused"));
  CHECK(first.status == 403);
  CHECK(first.headers.at("x-why") == "a test");
  CHECK(client.ask(get("/now")).status == 200);  // nothing was left unread

  RawClient with_body(server.address());
  with_body.send("POST /refused HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\nsome");
  const auto refused = with_body.answer();
  CHECK(refused.status == 403);
  CHECK(refused.headers.at("connection") == "close");
  CHECK(with_body.rest().empty());
  CHECK(server.waiting() == 0);
}

TEST_CASE("a client that expects 100 gets it, or the refusal instead") {
  TestServer server;
  RawClient client(server.address());
  const std::string head = " HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n";
  client.send("POST /now" + head);
  CHECK(client.receive_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("body");
  CHECK(client.answer().body == "POST /now? body");
  client.send("POST /now" + head + "body");  // it did not wait
  CHECK(client.answer().body == "POST /now? body");
  CHECK(client.ask("POST /refused" + head).status == 403);

  RawClient other(server.address());
  CHECK(other.ask(post("/now", "body", "Expect: cake\r\n")).status == 417);
}

TEST_CASE("HTTP/1.0 gets whole answers, and keeps the connection only when it asks to") {
  TestServer server;
  RawClient client(server.address());
  auto answer = client.ask("GET /now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  CHECK(answer.body == "GET /now? ");
  CHECK(answer.headers.at("connection") == "keep-alive");
  answer = client.ask("GET /now HTTP/1.0\r\n\r\n");
  CHECK(answer.headers.at("connection") == "close");
  CHECK(client.rest().empty());
}

TEST_CASE("Connection: close is obeyed") {
  TestServer server;
  RawClient client(server.address());
  CHECK(client.ask(get("/now", "Connection: close\r\n")).headers.at("connection") == "close");
  CHECK(client.rest().empty());
}

TEST_CASE("a callback that throws is an answer with 500, and the server continues") {
  TestServer server;
  for (const char* path : {"/throws", "/throws-early"}) {
    RawClient client(server.address());
    const auto answer = client.ask(get(path));
    CHECK(answer.status == 500);
    CHECK(contains(answer.body, "error"));
    CHECK(client.rest().empty());
  }
  RawClient client(server.address());
  CHECK(client.ask(get("/now")).status == 200);
}

TEST_CASE("an exchange that is let go without an answer gets 500") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/wait"));
  server.next();
  CHECK(client.answer().status == 500);
  CHECK(comes_true([&] { return server->exchanges() == 0; }));
}

TEST_CASE("a header that would break its line is refused where it is made") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/wait"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  const auto refused = [&](const std::string& name, const std::string& value) {
    test::failure(ErrorKind::internal, [&] { exchange->answer({200, "", "", {{name, value}}}); });
    test::failure(ErrorKind::internal, [&] { exchange->begin_stream({{name, value}}, ""); });
  };
  refused("X", "a\r\nSet-Cookie: b");
  refused("X\r\nY", "a");
  refused("", "a");
  test::failure(ErrorKind::internal, [&] { exchange->answer({200, "text\nplain", "", {}}); });
  test::failure(ErrorKind::internal, [&] { exchange->answer({99, "text/plain", "", {}}); });
  exchange->answer({200, "text/plain", "well", {}});
  exchange->answer({200, "text/plain", "again", {}});
  CHECK(client.answer().body == "well");
  CHECK_FALSE(client.readable(20));
}

TEST_CASE("a large answer comes whole") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/wait"));
  const auto exchange = server.next();
  REQUIRE(exchange);
  std::string body;
  for (int count = 0; count < 1'000'000; ++count) body += std::to_string(count);
  exchange->answer({200, "text/plain", body, {}});
  CHECK((client.answer().body == body));
  CHECK(comes_true([&] { return exchange->unsent() == 0; }));
}
