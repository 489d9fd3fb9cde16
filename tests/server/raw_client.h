// The other side of a server under test: a socket, and as much HTTP as a test wants to see.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "server/http/address.h"

namespace tqkv::test {

struct RawAnswer {
  int status = 0;  ///< 0: the connection ended before an answer
  std::string line;
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::string body;                            ///< without chunks
  bool whole = false;                          ///< the body came to its announced end
};

class RawClient {
 public:
  /// Connects, or fails the test. `receive_buffer`: bytes that the system may take before the client reads; 0: its own.
  explicit RawClient(const http::Address& address, int receive_buffer = 0);
  ~RawClient();
  RawClient(RawClient&& other) noexcept;
  RawClient& operator=(RawClient&&) = delete;

  /// Sends all; false when the server has cut the connection.
  bool send(std::string_view text);
  /// One piece of what comes next: "" at the end, or when none comes within five seconds, which fails the test.
  std::string receive();
  /// Receives until `part` has come, and returns all up to its end. Fails the test where the connection ends before.
  std::string receive_until(std::string_view part);
  /// The next answer. `body`: whether one follows the headers.
  RawAnswer answer(bool body = true);
  /// send() and answer().
  RawAnswer ask(std::string_view request);
  /// Everything up to the end of the connection.
  std::string rest();
  /// Whether something can be read within `milliseconds`, an end included.
  bool readable(int milliseconds) const;
  void shut_down_writing();
  void close();
  /// Closes so that the server gets a reset.
  void reset();

 private:
  std::string take(std::size_t size);

  int descriptor_ = -1;
  std::string read_;  ///< received, not returned
};

/// "GET PATH HTTP/1.1" with a Host.
std::string get(std::string_view path, std::string_view headers = "");
std::string post(std::string_view path, std::string_view body, std::string_view headers = "");

}  // namespace tqkv::test
