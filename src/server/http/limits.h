// What a server takes of its clients, and how long it waits for them.
#pragma once
#include <chrono>
#include <cstddef>

namespace tqkv::http {

struct Limits {
  std::size_t header_bytes = 16 << 10;  ///< request line and headers
  std::size_t headers = 100;
  std::size_t body_bytes = 16 << 20;
  std::size_t all_bodies = 256 << 20;  ///< bytes of bodies that are held, of all requests together
  std::size_t connections = 1024;
  std::size_t unread_bytes = 1 << 20;  ///< of a stream, before Exchange::full() says so

  std::chrono::milliseconds header_time{10'000};  ///< from the first byte of a request to the end of its headers
  std::chrono::milliseconds body_time{30'000};    ///< from there to the end of its body
  std::chrono::milliseconds idle_time{60'000};    ///< without a request
  std::chrono::milliseconds unread_time{30'000};  ///< without progress while a client does not read
  std::chrono::milliseconds linger_time{2'000};   ///< for a client to read the last answer and close
  std::chrono::milliseconds heartbeat{1'000};     ///< silence of a stream, before its heartbeat is sent
};

}  // namespace tqkv::http
