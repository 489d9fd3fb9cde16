// Messages of a conversation, put together from pieces that other protocols have apart.
#pragma once
#include <string>
#include <string_view>

#include "server/protocol/json.h"

namespace tqkv::server {

class TurnList {
 public:
  void system(std::string_view text);
  void user(std::string_view text);  ///< a piece of a user's message; a blank line stands between two
  void tool_result(std::string_view text);
  void thinking(std::string_view text);  ///< begins an assistant's message, unless one without text and calls is open
  void answer(std::string_view text);
  void call(std::string_view name, Json arguments);
  /// The message that follows is a new one, though it has the same role.
  void part();

  bool empty() const { return messages_.empty(); }
  bool ends_with_answer() const;  ///< an assistant's message without calls is the last
  std::string text() const { return print(messages_); }

 private:
  Json& last(std::string_view role);

  Json messages_ = Json::array();
  bool parted_ = true;
};

}  // namespace tqkv::server
