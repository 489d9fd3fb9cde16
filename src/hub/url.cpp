#include "hub/url.h"

#include <curl/curl.h>

#include <memory>

namespace tqkv::hub {
namespace {

using Url = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

Url parse(const std::string& url) {
  Url parsed(curl_url(), curl_url_cleanup);
  if (parsed && curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) parsed.reset();
  return parsed;
}

std::string part(const Url& url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), which, &text, flags) != CURLUE_OK) return "";
  std::string result(text);
  curl_free(text);
  return result;
}

std::optional<std::string> origin(const Url& url) {
  if (!url || !part(url, CURLUPART_USER).empty() || !part(url, CURLUPART_PASSWORD).empty()) return std::nullopt;
  const std::string scheme = part(url, CURLUPART_SCHEME);  // curl writes it in lower case
  if (scheme != "http" && scheme != "https") return std::nullopt;
  std::string host = part(url, CURLUPART_HOST);
  if (host.empty()) return std::nullopt;
  for (char& c : host)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return scheme + "://" + host + ":" + part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

}  // namespace

std::string encode_segment(std::string_view segment) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string text;
  for (const char c : segment) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      text += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      text += '%';
      text += digits[byte >> 4];
      text += digits[byte & 15];
    }
  }
  return text;
}

std::string encode_path(std::string_view path) {
  std::string text;
  while (true) {
    const std::size_t slash = path.find('/');
    text += encode_segment(path.substr(0, slash));
    if (slash == std::string_view::npos) return text;
    text += '/';
    path.remove_prefix(slash + 1);
  }
}

std::optional<std::string> origin_of(const std::string& url) {
  return origin(parse(url));
}

std::optional<std::string> join_url(const std::string& base, const std::string& location) {
  const Url url = parse(base);
  if (!url || curl_url_set(url.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK || !origin(url))
    return std::nullopt;
  return part(url, CURLUPART_URL);
}

}  // namespace tqkv::hub
