// chat.completion and its chunks.
#pragma once
#include "server/protocol/answer.h"

namespace tqkv::server {

class ChatAnswer : public AnswerWriter {
 public:
  explicit ChatAnswer(AnswerHead head) : AnswerWriter(std::move(head)) {}

 private:
  std::string on_begin() override;
  std::string on_open(int choice) override;
  std::string on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) override;
  std::string on_finish(int choice) override;
  std::string on_end(int last_choice, const AnswerReport& report) override;
  std::string on_fail(const ApiError& error) override;
  Json whole(const AnswerReport& report) const override;

  Json head_of(std::string_view object) const;
  Json chunk(int choice, Json delta, Json logprobs = nullptr, Json reason = nullptr) const;
  Json last_chunk(int choice) const;
  Json logprobs_of(const std::vector<TokenLogprob>& tokens) const;
};

}  // namespace tqkv::server
