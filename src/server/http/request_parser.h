// The bytes of a request, read as HTTP/1.1. The one place that knows Boost.Beast, behind this header.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "server/http/limits.h"
#include "server/http/message.h"

namespace tqkv::http {

/// Why a request is refused: an HTTP status and a sentence.
struct Refusal {
  int status;
  std::string message;
};

class RequestParser {
 public:
  enum class At { head, body, end };

  explicit RequestParser(const Limits& limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  /// Reads from `bytes`, which begin where the last call stopped, and returns how many it is done with. It stops at the
  /// end of the headers and at the end of the body; 0: more is needed. Throws Refusal.
  std::size_t put(std::string_view bytes);

  At at() const { return at_; }
  Head& head() { return head_; }
  std::string& body() { return body_; }
  /// From the end of the headers on: whether the connection may serve another request.
  bool keep_alive() const;

 private:
  class Beast;
  void check_head();

  Head head_;
  std::string body_;
  At at_ = At::head;
  const Limits* limits_;
  std::unique_ptr<Beast> beast_;
};

}  // namespace tqkv::http
