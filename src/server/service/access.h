// Access: what is asked, and whether it may be: known paths, our own name, the key.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/message.h"
#include "server/protocol/api_error.h"

namespace tqkv::server {

enum class Route {
  page,
  health,
  metrics,
  plan,
  models,
  model,  ///< one of them
  tokenize,
  detokenize,
  chat,
  completions,
  responses,
  messages,
  count_tokens,
  unknown
};

/// What the path of a request names, whatever its method.
Route route_of(std::string_view path);
/// Whether it speaks Anthropic's protocol, errors included.
bool anthropic(Route route);

struct AccessRules {
  std::string key;                 ///< what a request must bring; empty: none
  std::vector<std::string> hosts;  ///< names under which the server may be asked, in small letters; empty: any
};

/// Why a request is refused before its body is read; nothing where it is not. Never says anything of the key.
std::optional<ApiError> refusal_of(const http::Head& head, const AccessRules& rules);

/// The error in the words of the route's protocol, with the headers that its status wants.
http::Answer answer_of(const ApiError& error, Route route);

}  // namespace tqkv::server
