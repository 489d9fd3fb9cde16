// Requests and answers: what a client sees of an ordinary exchange.
#include <doctest/doctest.h>

#include <string>

#include "server/raw_client.h"
#include "server/test_server.h"
#include "support/failure.h"

using namespace tqkv;
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
