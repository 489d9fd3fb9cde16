// Clients that leave: noticed at once in every phase, told once, and never mistaken.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "base/stopwatch.h"
#include "server/raw_client.h"
#include "server/test_server.h"
#include "support/failure.h"

using namespace tqkv;
using namespace std::chrono_literals;
using test::comes_true;
using test::get;
using test::post;
using test::RawClient;
using test::Signal;
using test::TestServer;

namespace {

enum class Leaves { closes, resets, ends_its_side };

void leave(RawClient& client, Leaves how) {
  if (how == Leaves::closes) client.close();
  if (how == Leaves::resets) client.reset();
  if (how == Leaves::ends_its_side) client.shut_down_writing();
}

constexpr double soon = 0.05;  // seconds; idle machines take less than a millisecond

/// A request under way, and when its client was seen to leave.
struct Watched {
  explicit Watched(TestServer& server) : client(server.address()) {
    client.send(get("/wait"));
    exchange = server.next();
    REQUIRE(exchange);
    exchange->on_gone([this] {
      ++times;
      gone.set();
    });
  }
  double seconds_until_noticed(Leaves how) {
    const Stopwatch stopwatch;
    leave(client, how);
    CHECK(gone.wait());
    return stopwatch.seconds();
  }

  RawClient client;
  std::shared_ptr<http::Exchange> exchange;
  Signal gone;
  std::atomic<int> times{0};
};

/// The longest time until a client that leaves was noticed, of one that waits for its answer, one whose stream is
/// silent and one that is sent events.
double slowest_notice(TestServer& server, Leaves how) {
  double slowest = 0;
  {
    Watched before(server);
    slowest = std::max(slowest, before.seconds_until_noticed(how));
    CHECK(before.exchange->gone());
    before.exchange->answer({200, "text/plain", "too late", {}});
    CHECK(before.times == 1);
  }
  {
    Watched silent(server);
    silent.exchange->begin_stream({}, ": \n\n");
    silent.client.receive_until("\r\n\r\n");
    slowest = std::max(slowest, silent.seconds_until_noticed(how));
    CHECK(silent.exchange->gone());
    CHECK(silent.times == 1);
  }
  {
    Watched streaming(server);
    streaming.exchange->begin_stream({}, ": \n\n");
    std::atomic<bool> stop{false};
    std::thread engine([&] {
      while (!stop && !streaming.exchange->gone()) streaming.exchange->send("data: token\n\n");
    });
    streaming.client.receive_until("data: token\n\n");
    slowest = std::max(slowest, streaming.seconds_until_noticed(how));
    stop = true;
    engine.join();
    CHECK(streaming.times == 1);
  }
  return slowest;
}

}  // namespace

TEST_CASE("a client that leaves is noticed before its answer, in silence and in the stream") {
  TestServer server;
  for (const Leaves how : {Leaves::closes, Leaves::resets, Leaves::ends_its_side}) {
    double slowest = 1;
    for (int tries = 0; tries < 5 && slowest > soon; ++tries)  // a machine that is busy may take longer once
      slowest = slowest_notice(server, how);
    MESSAGE("noticed after at most " << slowest * 1000 << " ms");
    CHECK(slowest < soon);
  }
  CHECK(comes_true([&] { return server->connections() == 0 && server->exchanges() == 0; }));
}

TEST_CASE("a client that sent its next request and left is gone all the same") {
  TestServer server;
  Watched watched(server);
  watched.client.send(get("/now"));
  watched.seconds_until_noticed(Leaves::closes);
  CHECK(server.waiting() == 0);
}

TEST_CASE("a client that ends its side still gets an answer that is there by then") {
  TestServer server;
  RawClient client(server.address());
  client.send(get("/now"));
  client.shut_down_writing();
  CHECK(client.answer().body == "GET /now? ");
  CHECK(client.rest().empty());

  Watched watched(server);  // an answer that is on its way
  const std::string body(5'000'000, 'x');
  watched.exchange->answer({200, "text/plain", body, {}});
  CHECK(comes_true([&] { return watched.client.readable(0); }));
  watched.client.shut_down_writing();
  CHECK((watched.client.answer().body == body));
  CHECK(watched.times == 0);
  CHECK_FALSE(watched.exchange->gone());
}

TEST_CASE("a client that leaves in the middle of its request is nobody's exchange") {
  TestServer server;
  for (const std::string& part : {std::string("GE"), get("/wait").substr(0, 30), post("/wait", "body").substr(0, 56)})
    for (const Leaves how : {Leaves::closes, Leaves::resets}) {
      RawClient client(server.address());
      client.send(part);
      leave(client, how);
    }
  CHECK(comes_true([&] { return server->connections() == 0; }));
  CHECK(server.waiting() == 0);
}

TEST_CASE("who is told late is told at once, and who has answered is not told") {
  TestServer server;
  Watched watched(server);
  watched.seconds_until_noticed(Leaves::closes);
  int times = 0;
  watched.exchange->on_gone([&] { ++times; });
  CHECK(times == 1);

  Watched answered(server);
  answered.exchange->answer({200, "text/plain", "well", {}});
  CHECK(answered.client.answer().body == "well");
  answered.client.close();
  CHECK(comes_true([&] { return server->connections() == 0; }));
  CHECK(answered.times == 0);
  CHECK_FALSE(answered.exchange->gone());
}

TEST_CASE("a callback that throws or holds its own exchange does no harm") {
  TestServer server;
  {
    RawClient client(server.address());
    client.send(get("/wait"));
    auto exchange = server.next();
    REQUIRE(exchange);
    exchange->on_gone([exchange] { throw std::runtime_error("nobody hears this"); });
    exchange->on_gone([exchange] { throw std::runtime_error("nor this"); });
  }
  CHECK(comes_true([&] { return server->connections() == 0 && server->exchanges() == 0; }));
  {
    RawClient client(server.address());
    client.send(get("/wait"));
    auto exchange = server.next();
    REQUIRE(exchange);
    exchange->on_gone([exchange] {});
    exchange->answer({});
    CHECK(client.answer().status == 200);
  }
  RawClient client(server.address());
  CHECK(client.ask(get("/now")).status == 200);
}
