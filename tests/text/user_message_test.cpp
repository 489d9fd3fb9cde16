#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tqkv/chat.h"

using namespace tqkv;

TEST_CASE("a question with quotes, line breaks and broken bytes is one message of a user") {
  const std::string question = "Is \"{}\" a\n\\block\\? \xff Grüße";
  const Conversation conversation = user_message(question);
  const auto messages = nlohmann::json::parse(conversation.messages);
  REQUIRE(messages.size() == 1);
  CHECK(messages[0]["role"] == "user");
  CHECK(messages[0]["content"] == "Is \"{}\" a\n\\block\\? \xef\xbf\xbd Grüße");
  CHECK(conversation.tools.empty());
  CHECK(text_of(ChatTemplate(ChatVariant::plain).render(conversation, {})).find("\\block\\?") != std::string::npos);
}
