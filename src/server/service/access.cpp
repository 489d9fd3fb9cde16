#include "server/service/access.h"

#include <algorithm>
#include <array>
#include <utility>

namespace tqkv::server {
namespace {

struct Place {
  std::string_view path;
  Route route;
  std::string_view method;
};

constexpr std::array<Place, 13> places = {{{"/", Route::page, "GET"},
                                           {"/health", Route::health, "GET"},
                                           {"/metrics", Route::metrics, "GET"},
                                           {"/plan", Route::plan, "GET"},
                                           {"/v1/models", Route::models, "GET"},
                                           {"/tokenize", Route::tokenize, "POST"},
                                           {"/detokenize", Route::detokenize, "POST"},
                                           {"/v1/chat/completions", Route::chat, "POST"},
                                           {"/v1/completions", Route::completions, "POST"},
                                           {"/v1/responses", Route::responses, "POST"},
                                           {"/v1/messages", Route::messages, "POST"},
                                           {"/v1/messages/count_tokens", Route::count_tokens, "POST"},
                                           {"/index.html", Route::page, "GET"}}};
constexpr std::string_view one_model = "/v1/models/";

// OpenAI's that this program cannot do: 501 says that it is known.
constexpr std::array<std::string_view, 7> undone = {"/v1/embeddings", "/v1/audio/",      "/v1/images/",    "/v1/files",
                                                    "/v1/batches",    "/v1/moderations", "/v1/fine_tuning"};

std::string_view method_of(Route route) {
  if (route == Route::model) return "GET";
  return std::find_if(places.begin(), places.end(), [&](const Place& one) { return one.route == route; })->method;
}

std::string lower(std::string_view text) {
  std::string small(text);
  for (char& c : small)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return small;
}

/// The name of "name:port" or "[::1]:port", in small letters.
std::string host_name(std::string_view authority) {
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    return end == std::string_view::npos ? std::string() : lower(authority.substr(1, end - 1));
  }
  return lower(authority.substr(0, authority.find(':')));
}

/// Takes as long for any two texts of these sizes.
bool same_secret(std::string_view given, std::string_view key) {
  unsigned differs = given.size() == key.size() ? 0 : 1;
  for (std::size_t i = 0; i < key.size(); ++i)
    differs |=
        static_cast<unsigned char>(key[i]) ^ static_cast<unsigned char>(given.empty() ? 0 : given[i % given.size()]);
  return differs == 0;
}

std::string_view key_of(const http::Head& head) {
  constexpr std::string_view bearer = "bearer ";
  const std::string_view authorization = head.header("Authorization");
  if (lower(authorization.substr(0, bearer.size())) == bearer) return authorization.substr(bearer.size());
  return head.header("x-api-key");
}

bool ours(const http::Head& head, const AccessRules& rules) {
  if (rules.hosts.empty()) return true;
  const std::string_view host = head.header("Host");
  return head.http_10 && host.empty() ? true : std::ranges::find(rules.hosts, host_name(host)) != rules.hosts.end();
}

/// A page of another site says where it is from.
bool foreign(const http::Head& head) {
  const std::string_view origin = head.header("Origin");
  if (origin.empty()) return false;
  const std::size_t scheme = origin.find("://");
  return scheme == std::string_view::npos || lower(origin.substr(scheme + 3)) != lower(head.header("Host"));
}

bool json_body(std::string_view type) {
  const std::string small = lower(type.substr(0, type.find(';')));
  const std::size_t end = small.find_last_not_of(' ') + 1;
  return small.substr(0, end) == "application/json";
}

ApiError invalid(int status, const std::string& message, std::optional<std::string> code = {}) {
  return {status, "invalid_request_error", message, std::nullopt, std::move(code)};
}

}  // namespace

Route route_of(std::string_view path) {
  for (const Place& place : places)
    if (place.path == path) return place.route;
  if (path.starts_with(one_model) && path.size() > one_model.size()) return Route::model;
  return Route::unknown;
}

bool anthropic(Route route) {
  return route == Route::messages || route == Route::count_tokens;
}

std::optional<ApiError> refusal_of(const http::Head& head, const AccessRules& rules) {
  const Route route = route_of(head.path);
  if (!ours(head, rules))
    return ApiError(403, "permission_error", "this server does not answer to the name in the header Host");
  if (foreign(head)) return ApiError(403, "permission_error", "pages of other sites may not use this server");
  const bool open = route == Route::health || route == Route::page;
  if (!open && !rules.key.empty() && !same_secret(key_of(head), rules.key))
    return ApiError(401, "authentication_error", "the API key is missing or wrong", std::nullopt, "invalid_api_key");
  if (route == Route::unknown) {
    for (const std::string_view path : undone)
      if (std::string_view(head.path).starts_with(path))
        return invalid(501, std::string(head.path) + " is not something that this server does");
    return ApiError(404, "not_found_error", "there is nothing at " + head.path.substr(0, 80));
  }
  const std::string_view method = method_of(route);
  if (head.method != method && !(method == "GET" && head.method == "HEAD"))
    return invalid(405, head.path.substr(0, 80) + " takes " + std::string(method));
  if (method == "POST" && !json_body(head.header("Content-Type")))
    return invalid(415, "the header Content-Type must be application/json");
  return std::nullopt;
}

http::Answer answer_of(const ApiError& error, Route route) {
  http::Answer answer{
      error.status, "application/json", anthropic(route) ? anthropic_error(error) : openai_error(error), {}};
  if (error.status == 405) answer.headers.emplace_back("Allow", method_of(route) == "GET" ? "GET, HEAD" : "POST");
  if (error.status == 429 || error.status == 503) answer.headers.emplace_back("Retry-After", "1");
  if (error.status == 401) answer.headers.emplace_back("WWW-Authenticate", "Bearer");
  return answer;
}

}  // namespace tqkv::server
