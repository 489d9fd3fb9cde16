#include "server/http/write_head.h"

#include <fmt/format.h>

#include <array>
#include <ctime>
#include <iterator>

namespace tqkv::http {
namespace {

/// As RFC 9110, 5.6.7, has it, in every locale: "Sun, 06 Nov 1994 08:49:37 GMT".
std::string date_of(std::time_t time) {
  static constexpr std::array<const char*, 7> days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<const char*, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", days.at(static_cast<std::size_t>(parts.tm_wday)),
                     parts.tm_mday, months.at(static_cast<std::size_t>(parts.tm_mon)), parts.tm_year + 1900,
                     parts.tm_hour, parts.tm_min, parts.tm_sec);
}

}  // namespace

void write_header(std::string& out, std::string_view name, std::string_view value) {
  fmt::format_to(std::back_inserter(out), "{}: {}\r\n", name, value);
}

void write_head(std::string& out, int status, const Headers& headers, std::string_view connection) {
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\n", status, reason(status));
  write_header(out, "Date", date_of(std::time(nullptr)));
  for (const auto& [name, value] : headers) write_header(out, name, value);
  write_header(out, "Connection", connection);
}

}  // namespace tqkv::http
