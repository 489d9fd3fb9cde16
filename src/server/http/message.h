// What is asked and answered, as HTTP has it.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tqkv::http {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// A request without its body.
struct Head {
  std::string method;    ///< as sent: "GET"
  std::string path;      ///< as sent, not decoded; without scheme and host
  std::string query;     ///< behind the '?'
  Headers headers;       ///< as sent, in order
  bool local = false;    ///< it came over a unix socket or from this machine's loopback
  bool http_10 = false;  ///< else HTTP/1.1

  /// The value of the first header of this name, whatever its case; empty where there is none.
  std::string_view header(std::string_view name) const;
};

/// A whole answer. The server adds Date, Content-Length and Connection.
struct Answer {
  int status = 200;
  std::string content_type;  ///< empty: no such header
  std::string body;
  Headers headers;
};

/// Whether two names are the same but for the case of ASCII letters.
bool same_name(std::string_view one, std::string_view other);

/// "Not Found"; empty for a status that has no name.
std::string_view reason(int status);

/// Throws Error(internal) where a header would end its line, or has a name that is none.
void require_headers(const Headers& headers);
/// The same for an answer, whose status must be one of 200 to 599.
void require_answer(const Answer& answer);

}  // namespace tqkv::http
