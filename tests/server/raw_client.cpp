#include "server/raw_client.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <charconv>
#include <utility>

namespace tqkv::test {
namespace {

#if defined(MSG_NOSIGNAL)
constexpr int no_signal = MSG_NOSIGNAL;
#else
constexpr int no_signal = 0;
#endif
constexpr int patience = 5'000;  // milliseconds

int connected(const http::Address& address, int receive_buffer) {
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (!address.unix_path.empty()) {
    auto& to = reinterpret_cast<sockaddr_un&>(storage);
    to.sun_family = AF_UNIX;
    address.unix_path.copy(to.sun_path, sizeof to.sun_path - 1);
    size = sizeof to;
  } else if (address.host.find(':') != std::string::npos) {
    auto& to = reinterpret_cast<sockaddr_in6&>(storage);
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(address.port);
    ::inet_pton(AF_INET6, address.host.c_str(), &to.sin6_addr);
    size = sizeof to;
  } else {
    auto& to = reinterpret_cast<sockaddr_in&>(storage);
    to.sin_family = AF_INET;
    to.sin_port = htons(address.port);
    ::inet_pton(AF_INET, address.host == "localhost" ? "127.0.0.1" : address.host.c_str(), &to.sin_addr);
    size = sizeof to;
  }
  const int descriptor = ::socket(storage.ss_family, SOCK_STREAM, 0);
  REQUIRE(descriptor >= 0);
  if (receive_buffer > 0) ::setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  const int on = 1;
  if (storage.ss_family != AF_UNIX) ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
#if defined(SO_NOSIGPIPE)
  ::setsockopt(descriptor, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
  REQUIRE(::connect(descriptor, reinterpret_cast<sockaddr*>(&storage), size) == 0);
  return descriptor;
}

}  // namespace

RawClient::RawClient(const http::Address& address, int receive_buffer)
    : descriptor_(connected(address, receive_buffer)) {}

RawClient::~RawClient() {
  close();
}

RawClient::RawClient(RawClient&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), read_(std::move(other.read_)) {}

bool RawClient::send(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::send(descriptor_, text.data(), text.size(), no_signal);
    if (count < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

bool RawClient::readable(int milliseconds) const {
  pollfd ready{descriptor_, POLLIN, 0};
  return ::poll(&ready, 1, milliseconds) > 0;
}

std::string RawClient::receive() {
  if (!read_.empty()) return std::exchange(read_, {});
  if (!readable(patience)) {
    FAIL_CHECK("nothing came");
    return {};
  }
  std::array<char, 65536> bytes;
  const ssize_t count = ::recv(descriptor_, bytes.data(), bytes.size(), 0);
  return count > 0 ? std::string(bytes.data(), static_cast<std::size_t>(count)) : std::string();
}

std::string RawClient::receive_until(std::string_view part) {
  std::string all;
  while (true) {
    if (const std::size_t at = all.find(part); at != std::string::npos) {
      read_ = all.substr(at + part.size());
      all.resize(at + part.size());
      return all;
    }
    const std::string piece = receive();
    if (piece.empty()) {
      FAIL_CHECK("the connection ended after: " << all);
      return all;
    }
    all += piece;
  }
}

std::string RawClient::take(std::size_t size) {
  std::string all;
  while (all.size() < size) {
    const std::string piece = receive();
    if (piece.empty()) return all;
    all += piece;
  }
  read_ = all.substr(size);
  all.resize(size);
  return all;
}

RawAnswer RawClient::answer(bool body) {
  RawAnswer answer;
  std::string first = receive();
  if (first.empty()) return answer;
  read_ = std::move(first);
  const std::string head = receive_until("\r\n\r\n");
  answer.line = head.substr(0, head.find("\r\n"));
  if (head.size() > 12) std::from_chars(head.data() + 9, head.data() + 12, answer.status);
  for (std::size_t at = head.find("\r\n") + 2; at + 2 < head.size();) {
    const std::size_t end = head.find("\r\n", at), colon = head.find(": ", at);
    std::string name = head.substr(at, colon - at);
    for (char& letter : name) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    CHECK(answer.headers.emplace(name, head.substr(colon + 2, end - colon - 2)).second);  // none twice
    at = end + 2;
  }
  if (!body) {
    answer.whole = true;
  } else if (answer.headers.count("content-length") > 0) {
    const auto size = static_cast<std::size_t>(std::stoul(answer.headers.at("content-length")));
    answer.body = take(size);
    answer.whole = answer.body.size() == size;
  } else if (answer.headers.count("transfer-encoding") > 0) {
    while (true) {
      const std::string line = receive_until("\r\n");
      if (line.size() < 3) return answer;
      const std::size_t size = std::stoul(line, nullptr, 16);
      const std::string chunk = take(size + 2);
      if (chunk.size() < size + 2) return answer;
      answer.body.append(chunk, 0, size);
      if (size == 0) break;
    }
    answer.whole = true;
  } else {
    answer.body = rest();
    answer.whole = true;
  }
  return answer;
}

RawAnswer RawClient::ask(std::string_view request) {
  send(request);
  return answer();
}

std::string RawClient::rest() {
  std::string all;
  for (std::string piece = receive(); !piece.empty(); piece = receive()) all += piece;
  return all;
}

void RawClient::shut_down_writing() {
  ::shutdown(descriptor_, SHUT_WR);
}

void RawClient::close() {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

void RawClient::reset() {
  const linger now{1, 0};
  ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

std::string get(std::string_view path, std::string_view headers) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: here\r\n{}\r\n", path, headers);
}

std::string post(std::string_view path, std::string_view body, std::string_view headers) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: here\r\nContent-Length: {}\r\n{}\r\n{}", path, body.size(), headers,
                     body);
}

}  // namespace tqkv::test
