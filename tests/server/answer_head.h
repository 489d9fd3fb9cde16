// The head of the answers that tests write out to the byte.
#pragma once
#include <cstdint>
#include <string>

#include "server/protocol/answer.h"

namespace tqkv::test {

inline server::AnswerHead answer_head(bool stream, std::string given_back = {}, std::int64_t created = 1) {
  server::AnswerHead head;
  head.id = "7f";
  head.created = created;
  head.model = "M";
  head.stream = stream;
  head.given_back = std::move(given_back);
  return head;
}

/// What an answer of /v1/responses repeats of a plain request.
inline constexpr const char* plain_request = R"({"tools":[],"tool_choice":"auto","parallel_tool_calls":true})";

}  // namespace tqkv::test
