// One HTTP exchange at a time over libcurl. It follows no redirect, keeps no cookie and reads no password file: what is
// sent where is decided by its caller.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hub/settings.h"

namespace tqkv::hub {

/// Throws Error(hub).
[[noreturn]] void fail_hub(const std::string& message);

struct Request {
  std::string url;
  bool head = false;                              ///< HEAD, else GET
  std::vector<std::string> headers;               ///< "Name: value"
  std::size_t body_limit = std::size_t{1} << 16;  ///< bytes of a body that no sink takes
};

struct Answer {
  int status = 0;                                           ///< 0: none came
  std::map<std::string, std::string, std::less<>> headers;  ///< names in lower case
  std::string body;                                         ///< what no sink took, cut at the limit
  std::string failure;       ///< why the transfer ended before its announced end; empty when it did not
  bool unreachable = false;  ///< there was no connection at all
  bool refused = false;      ///< it failed because of what the answer is: another try would bring the same

  /// Empty when there is no such header.
  std::string_view header(std::string_view name) const;
};

/// A decimal number and nothing else.
std::optional<std::uint64_t> parse_number(std::string_view text);

class Http {
 public:
  /// Takes the body of an answer with status 200 or 206 as it comes. Returns whether it wants more; what it throws
  /// leaves send().
  using Sink = std::function<bool(const Answer& head, std::span<const std::byte> bytes)>;

  /// Both must outlive it.
  Http(const Settings& settings, const Stop& stop);
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  /// Never throws for what the network does, but Stopped when the stop asks.
  Answer send(const Request& request, const Sink& sink = {});

 private:
  struct Exchange;
  const Settings& settings_;
  const Stop& stop_;
  void* easy_;  // CURL*, which the header of libcurl declares as void
};

}  // namespace tqkv::hub
