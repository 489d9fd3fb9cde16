// What a request is refused with.
#pragma once
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tqkv::server {

/// what() is the message for people. Never quotes more than a little of a request.
class ApiError : public std::runtime_error {
 public:
  int status;
  std::string type;                  ///< invalid_request_error, not_found_error, …: the word of either protocol
  std::optional<std::string> param;  ///< the field: messages[0].content
  std::optional<std::string> code;   ///< context_length_exceeded, …

  ApiError(int http_status, std::string error_type, const std::string& message,
           std::optional<std::string> field = std::nullopt, std::optional<std::string> error_code = std::nullopt)
      : std::runtime_error(message),
        status(http_status),
        type(std::move(error_type)),
        param(std::move(field)),
        code(std::move(error_code)) {}
};

/// 400 about a field ("": none).
ApiError bad_request(std::string_view field, const std::string& message);
/// 400: the prompt is longer than the context. Says both numbers.
ApiError too_long(int prompt_tokens, int most_tokens);
/// 404: no such model.
ApiError unknown_model(std::string_view name);

/// {"error":{"message":…,"type":…,"param":…,"code":…}}, all four keys.
std::string openai_error(const ApiError& error);
/// {"type":"error","error":{"type":…,"message":…}}, with the type that the status has there.
std::string anthropic_error(const ApiError& error);

}  // namespace tqkv::server
