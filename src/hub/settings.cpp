#include "hub/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/file.h"
#include "hub/url.h"
#include "loaders/hub.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t longest_token = 4096;

std::string trimmed(std::string_view text) {
  constexpr std::string_view blank = " \t\r\n";
  const std::size_t first = text.find_first_not_of(blank);
  if (first == std::string_view::npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(blank) - first + 1));
}

/// What goes into a header must not end it.
std::string checked_token(std::string token, std::string_view source) {
  const bool plain = std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!plain || token.size() > longest_token)
    throw Error(ErrorKind::hub, fmt::format("{}: contains no token: one word of ASCII was expected", source));
  return token;
}

std::string find_token() {
  if (is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")) return "";
  for (const char* variable : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (std::string token = trimmed(environment(variable)); !token.empty())
      return checked_token(std::move(token), variable);
  fs::path file = expanded(environment("HF_TOKEN_PATH"));
  if (file.empty() && !hub_home().empty()) file = hub_home() / "token";
  std::error_code error;
  if (file.empty() || !fs::is_regular_file(file, error)) return "";
  return checked_token(trimmed(read_text(file, longest_token)), file.string());
}

std::string find_endpoint(std::string standard) {
  std::string endpoint = trimmed(environment("HF_ENDPOINT"));
  while (!endpoint.empty() && endpoint.back() == '/') endpoint.pop_back();
  if (endpoint.empty()) return standard;
  if (!origin_of(endpoint))
    throw Error(ErrorKind::hub, fmt::format("HF_ENDPOINT: \"{}\" is no http:// or https:// address", shown(endpoint)));
  return endpoint;
}

void read_timeout(const char* variable, std::chrono::seconds& timeout) {
  const std::string text = trimmed(environment(variable));
  if (text.empty()) return;
  int seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || seconds < 1 || seconds > 86400)
    throw Error(ErrorKind::hub, fmt::format("{}: \"{}\" is no number of seconds from 1", variable, shown(text)));
  timeout = std::chrono::seconds(seconds);
}

}  // namespace

Settings settings_from_environment() {
  Settings settings;
  settings.endpoint = find_endpoint(settings.endpoint);
  settings.token = find_token();
  settings.offline = offline_variable();
  settings.cache = hub_cache();
  for (const char* variable : {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
    if (settings.certificates.empty()) settings.certificates = environment(variable);
  read_timeout("HF_HUB_ETAG_TIMEOUT", settings.answer_timeout);
  read_timeout("HF_HUB_DOWNLOAD_TIMEOUT", settings.stall_timeout);
  return settings;
}

}  // namespace tqkv::hub
