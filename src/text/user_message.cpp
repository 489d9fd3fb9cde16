#include <nlohmann/json.hpp>

#include "text/turns.h"
#include "text/utf8.h"
#include "tqkv/chat.h"

namespace tqkv {

Conversation user_message(std::string_view text, std::optional<std::string_view> system, int* replaced) {
  auto messages = nlohmann::json::array();
  const auto add = [&](std::string_view role, std::string_view content) {
    std::string valid;
    const int count = text::append_lossy(valid, content);
    if (replaced) *replaced += count;
    messages.push_back({{"role", role}, {"content", std::move(valid)}});
  };
  if (system) add(text::role_system, *system);
  add(text::role_user, text);
  return {messages.dump(), ""};
}

}  // namespace tqkv
