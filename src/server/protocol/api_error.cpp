#include "server/protocol/api_error.h"

#include <fmt/format.h>

#include "server/protocol/json.h"

namespace tqkv::server {
namespace {

const char* anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
    case 529:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

Json text_or_null(const std::optional<std::string>& text) {
  return text ? Json(*text) : Json(nullptr);
}

}  // namespace

ApiError bad_request(std::string_view field, const std::string& message) {
  std::optional<std::string> param;
  if (!field.empty()) param = std::string(field);
  return ApiError(400, "invalid_request_error", message, std::move(param));
}

ApiError too_long(int prompt_tokens, int most_tokens) {
  // Clients look for these words, and then shorten the conversation.
  return ApiError(
      400, "invalid_request_error",
      fmt::format("The prompt is too long: {} tokens > {} maximum. Nothing was cut.", prompt_tokens, most_tokens),
      std::nullopt, "context_length_exceeded");
}

ApiError unknown_model(std::string_view name) {
  return ApiError(404, "not_found_error", fmt::format("There is no model {} here.", in_quotes(name)), "model",
                  "model_not_found");
}

std::string openai_error(const ApiError& error) {
  return print({{"error",
                 {{"message", error.what()},
                  {"type", error.type},
                  {"param", text_or_null(error.param)},
                  {"code", text_or_null(error.code)}}}});
}

std::string anthropic_error(const ApiError& error) {
  return print({{"type", "error"}, {"error", {{"type", anthropic_type(error.status)}, {"message", error.what()}}}});
}

}  // namespace tqkv::server
