#include "server/http/message.h"

#include <fmt/format.h>

#include <algorithm>

#include "tqkv/error.h"

namespace tqkv::http {
namespace {

char lower(char letter) {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

bool of_a_name(char letter) {
  const char small = lower(letter);
  return (small >= 'a' && small <= 'z') || (letter >= '0' && letter <= '9') || letter == '-' || letter == '_';
}

bool of_a_value(char letter) {
  const auto byte = static_cast<unsigned char>(letter);
  return (byte >= 0x20 && byte != 0x7f) || letter == '\t';
}

}  // namespace

std::string_view Head::header(std::string_view name) const {
  for (const auto& [one, value] : headers)
    if (same_name(one, name)) return value;
  return {};
}

bool same_name(std::string_view one, std::string_view other) {
  return std::ranges::equal(one, other, {}, lower, lower);
}

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Entity";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "";
  }
}

void require_headers(const Headers& headers) {
  for (const auto& [name, value] : headers)
    if (name.empty() || !std::ranges::all_of(name, of_a_name) || !std::ranges::all_of(value, of_a_value))
      throw Error(ErrorKind::internal,
                  fmt::format("an answer has the header {:?}, which no line of HTTP can hold", name));
}

void require_answer(const Answer& answer) {
  if (answer.status < 200 || answer.status > 599)
    throw Error(ErrorKind::internal,
                fmt::format("an answer has the status {}, and 200 to 599 is expected", answer.status));
  require_headers({{"Content-Type", answer.content_type}});
  require_headers(answer.headers);
}

}  // namespace tqkv::http
