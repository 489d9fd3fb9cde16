#include "server/protocol/chat_answer.h"
#include "server/protocol/completion_answer.h"
#include "server/protocol/messages_answer.h"
#include "server/protocol/responses_answer.h"

namespace tqkv::server {

std::unique_ptr<AnswerWriter> AnswerWriter::make(Endpoint endpoint, AnswerHead head) {
  if (endpoint == Endpoint::responses || endpoint == Endpoint::messages) head.n = 1;
  switch (endpoint) {
    case Endpoint::chat:
      return std::make_unique<ChatAnswer>(std::move(head));
    case Endpoint::completion:
      return std::make_unique<CompletionAnswer>(std::move(head));
    case Endpoint::responses:
      return std::make_unique<ResponsesAnswer>(std::move(head));
    default:
      return std::make_unique<MessagesAnswer>(std::move(head));
  }
}

}  // namespace tqkv::server
