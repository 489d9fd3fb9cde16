#include "server/protocol/chat_answer.h"

namespace tqkv::server {

std::unique_ptr<AnswerWriter> AnswerWriter::make(Endpoint endpoint, AnswerHead head) {
  switch (endpoint) {
    default:
      return std::make_unique<ChatAnswer>(std::move(head));
  }
}

}  // namespace tqkv::server
