#include "server/http/request_parser.h"

#include <fmt/format.h>

#include <cstdint>
#include <utility>  // Boost 1.74 wants it before Asio

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/version.hpp>

#include "base/numbers.h"

namespace tqkv::http {
namespace {

namespace beast = boost::beast;
using Code = beast::error_code;
using beast::http::error;

std::string text_of(beast::string_view view) {
  return {view.data(), view.size()};
}

}  // namespace

/// Beast reads; what it finds is kept here. Its limit of the headers counts what it has at hand, ours counts all.
class RequestParser::Beast final : public beast::http::basic_parser<true> {
 public:
  Beast(RequestParser& parser, const Limits& limits) : parser_(parser), limits_(limits) {
    header_limit(static_cast<std::uint32_t>(limits.header_bytes));
    body_limit(limits.body_bytes);
  }

  std::size_t hosts = 0, encodings = 0;
  bool chunked_alone = true;

 private:
  void count(std::size_t bytes, Code& code) {
    header_bytes_ += bytes;
    if (header_bytes_ > limits_.header_bytes) code = make_error_code(error::header_limit);
  }

  void on_request_impl(beast::http::verb, beast::string_view method, beast::string_view target, int version,
                       Code& code) override {
    Head& head = parser_.head_;
    head.method = text_of(method);
    head.path = text_of(target);
    head.http_10 = version < 11;
    count(method.size() + target.size() + 12, code);
  }

  void count_header(beast::string_view name, beast::string_view value, Code& code) {
    count(name.size() + value.size() + 4, code);
    if (++headers_ > limits_.headers) code = make_error_code(error::header_limit);
  }

  void on_field_impl(beast::http::field field, beast::string_view name, beast::string_view value, Code& code) override {
    count_header(name, value, code);
    if (code || parser_.at_ != At::head) return;  // trailers are counted and left out
    parser_.head_.headers.emplace_back(text_of(name), text_of(value));
    if (field == beast::http::field::host) ++hosts;
    if (field == beast::http::field::transfer_encoding) {
      ++encodings;
      chunked_alone = chunked_alone && same_name(text_of(value), "chunked");
    }
  }

#if BOOST_VERSION >= 109000
  void on_trailer_field_impl(beast::http::field, beast::string_view name, beast::string_view value,
                             Code& code) override {
    count_header(name, value, code);
  }
#endif

  void on_header_impl(Code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, Code&) override {}
  std::size_t on_body_impl(beast::string_view body, Code&) override {
    parser_.body_.append(body.data(), body.size());
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t, beast::string_view, Code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body, Code& code) override {
    return on_body_impl(body, code);
  }
  void on_finish_impl(Code&) override {}
  void on_response_impl(int, beast::string_view, int, Code&) override {}

  RequestParser& parser_;
  const Limits& limits_;
  std::size_t header_bytes_ = 0, headers_ = 0;
};

namespace {

Refusal refusal_of(const Code& code, const Limits& limits) {
  if (code == error::header_limit)
    return {431, fmt::format("the headers are too large: at most {} bytes and {} headers are taken",
                             grouped(limits.header_bytes), limits.headers)};
  if (code == error::body_limit)
    return {413, fmt::format("the body is too large: at most {} bytes are taken", grouped(limits.body_bytes))};
  if (code == error::bad_method || code == error::bad_target || code == error::bad_version)
    return {400, "the request does not begin as HTTP/1.1 does; TLS is not spoken here"};
  if (code == error::bad_content_length || code == error::bad_transfer_encoding)
    return {400, "the length of the body is not clear: one Content-Length or Transfer-Encoding: chunked is expected"};
  if (code == error::bad_chunk || code == error::bad_chunk_extension)
    return {400, "the body is not as Transfer-Encoding: chunked has it"};
  return {400, fmt::format("the headers cannot be read: {}", code.message())};
}

}  // namespace

RequestParser::RequestParser(const Limits& limits) : limits_(&limits), beast_(std::make_unique<Beast>(*this, limits)) {}

RequestParser::~RequestParser() = default;

std::size_t RequestParser::put(std::string_view bytes) {
  std::size_t done = 0;
  if (at_ == At::head && head_.method.empty())  // an empty line in front of a request is no harm
    while (done < bytes.size() && (bytes[done] == '\r' || bytes[done] == '\n')) ++done;
  while (at_ != At::end && done < bytes.size()) {
    Code code;
    const std::size_t count = beast_->put({bytes.data() + done, bytes.size() - done}, code);
    done += count;
    if (code && code != error::need_more) throw refusal_of(code, *limits_);
    if (at_ == At::head && beast_->is_header_done()) {
      check_head();
      at_ = beast_->is_done() ? At::end : At::body;
      return done;
    }
    if (beast_->is_done()) at_ = At::end;
    if (code) break;
  }
  return done;
}

void RequestParser::check_head() {
  if (beast_->encodings > 0 && (!beast_->chunked_alone || beast_->encodings > 1 || head_.http_10))
    throw Refusal{501, "no other Transfer-Encoding than chunked, in HTTP/1.1, is known here"};
  if (beast_->hosts > 1 || (beast_->hosts == 0 && !head_.http_10))
    throw Refusal{400, fmt::format("one header Host is expected, found {}", beast_->hosts)};
  std::string& path = head_.path;
  for (const std::string_view scheme : {"http://", "https://"}) {  // as proxies are asked
    if (!same_name(std::string_view(path).substr(0, scheme.size()), scheme)) continue;
    const std::size_t at = path.find_first_of("/?", scheme.size());
    path.erase(0, at);
    if (path.empty() || path[0] != '/') path.insert(0, "/");
    break;
  }
  if (const std::size_t mark = path.find('?'); mark != std::string::npos) {
    head_.query = path.substr(mark + 1);
    path.erase(mark);
  }
}

bool RequestParser::keep_alive() const {
  return beast_->keep_alive();
}

}  // namespace tqkv::http
