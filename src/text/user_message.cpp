#include <nlohmann/json.hpp>

#include "text/utf8.h"
#include "tqkv/chat.h"

namespace tqkv {

Conversation user_message(std::string_view text) {
  std::string valid;
  text::append_lossy(valid, text);
  return {nlohmann::json::array({{{"role", "user"}, {"content", valid}}}).dump(), ""};
}

}  // namespace tqkv
