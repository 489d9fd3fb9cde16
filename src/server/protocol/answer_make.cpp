#include "server/protocol/chat_answer.h"
#include "server/protocol/completion_answer.h"
#include "server/protocol/messages_answer.h"
#include "server/protocol/responses_answer.h"

namespace tqkv::server {

AnswerHead head_of(const Request& request, std::string id, std::int64_t created, std::string model) {
  AnswerHead head;
  head.id = std::move(id);
  head.created = created;
  head.model = std::move(model);
  head.n = request.n * static_cast<int>(1 + request.more_prompts.size());
  head.stream = request.stream;
  head.include_usage = request.include_usage;
  head.logprobs = request.top_logprobs.has_value();
  head.given_back = request.given_back;
  return head;
}

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
