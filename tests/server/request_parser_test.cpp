// The bytes of requests, without sockets: any cut gives the same request, and any bytes give a request or a refusal.
#include "server/http/request_parser.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <rapidcheck.h>

#include <string>
#include <vector>

using namespace tqkv;
using http::RequestParser;

namespace {

/// Gives `bytes` in pieces, as a connection does, and returns how many were taken.
std::size_t feed(RequestParser& parser, const std::string& bytes, const std::vector<std::size_t>& pieces) {
  std::string held;
  std::size_t given = 0, taken = 0;
  for (std::size_t piece = 0; given < bytes.size() && parser.at() != RequestParser::At::end; ++piece) {
    const std::size_t size = pieces.empty() ? bytes.size() : 1 + pieces[piece % pieces.size()] % 50;
    held += bytes.substr(given, size);
    given = std::min(bytes.size(), given + size);
    for (std::size_t count = 1; count > 0 && parser.at() != RequestParser::At::end;) {
      count = parser.put(held);
      held.erase(0, count);
      taken += count;
    }
  }
  return taken;
}

}  // namespace

TEST_CASE("a request is the same however it is cut, with a length and in chunks") {
  const http::Limits limits;
  CHECK(rc::check(
      [&](const std::string& body, const std::vector<std::size_t>& pieces, const std::vector<std::size_t>& chunks) {
        const bool chunked = *rc::gen::arbitrary<bool>();
        std::string bytes = "POST /path?query HTTP/1.1\r\nHost: here\r\nX-Name: value\r\n";
        if (chunked) {
          bytes += "Transfer-Encoding: chunked\r\n\r\n";
          std::size_t at = 0;
          for (std::size_t chunk = 0; at < body.size(); ++chunk) {
            const std::size_t size =
                std::min(body.size() - at, chunks.empty() ? 7 : 1 + chunks[chunk % chunks.size()] % 20);
            bytes += fmt::format("{:x}\r\n{}\r\n", size, body.substr(at, size));
            at += size;
          }
          bytes += "0\r\n\r\n";
        } else {
          bytes += fmt::format("Content-Length: {}\r\n\r\n{}", body.size(), body);
        }
        RequestParser parser(limits);
        RC_ASSERT(feed(parser, bytes + "GET /next", pieces) == bytes.size());
        RC_ASSERT(parser.at() == RequestParser::At::end);
        RC_ASSERT(parser.body() == body);
        RC_ASSERT(parser.head().path == "/path");
        RC_ASSERT(parser.head().query == "query");
        RC_ASSERT(parser.head().header("x-name") == "value");
        RC_ASSERT(parser.keep_alive());
      }));
}

TEST_CASE("any bytes are a request, the beginning of one, or a refusal with 4xx or 5xx") {
  http::Limits limits;
  limits.header_bytes = 300;
  limits.headers = 5;
  limits.body_bytes = 100;
  const std::vector<std::string> words{"GET ",
                                       "POST ",
                                       "/",
                                       " HTTP/1.1",
                                       " HTTP/1.0",
                                       "\r\n",
                                       "\r\n\r\n",
                                       "Host: h\r\n",
                                       "\n",
                                       "\r",
                                       ":",
                                       "Content-Length: 5\r\n",
                                       "5\r\nhello\r\n",
                                       "0\r\n\r\n",
                                       "0\r\n",
                                       ";a=b",
                                       "ff",
                                       "Transfer-Encoding: chunked\r\n",
                                       "Connection: close\r\n"};
  CHECK(rc::check([&](const std::vector<std::size_t>& pieces) {
    std::string bytes;
    for (const auto& [choice, any] : *rc::gen::arbitrary<std::vector<std::pair<unsigned, std::string>>>())
      bytes += choice % 8 == 0 ? any : words[choice % words.size()];
    if (*rc::gen::arbitrary<bool>())
      bytes.insert(0, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    RequestParser parser(limits);
    try {
      RC_ASSERT(feed(parser, bytes, pieces) <= bytes.size());
    } catch (const http::Refusal& refusal) {
      RC_ASSERT(refusal.status >= 400);
      RC_ASSERT(refusal.status < 600);
      RC_ASSERT(!refusal.message.empty());
    }
    RC_ASSERT(parser.head().headers.size() <= limits.headers);
    RC_ASSERT(parser.body().size() <= limits.body_bytes);
  }));
}
