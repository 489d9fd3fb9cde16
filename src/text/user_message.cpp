#include <nlohmann/json.hpp>

#include "tqkv/chat.h"

namespace tqkv {

Conversation user_message(std::string_view text) {
  const nlohmann::json message = {{"role", "user"}, {"content", text}};
  return {nlohmann::json::array({message}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), ""};
}

}  // namespace tqkv
