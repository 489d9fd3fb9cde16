// text_completion, whole and in pieces.
#pragma once
#include "server/protocol/answer.h"

namespace tqkv::server {

class CompletionAnswer : public AnswerWriter {
 public:
  explicit CompletionAnswer(AnswerHead head);

 private:
  std::string on_begin() override { return {}; }
  std::string on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) override;
  std::string on_finish(int choice) override;
  std::string on_end(int last_choice, const AnswerReport& report) override;
  std::string on_fail(const ApiError& error) override;
  Json whole(const AnswerReport& report) const override;

  Json head() const;
  Json choice_of(int choice, std::string_view text, Json logprobs, bool ends) const;
  Json logprobs_of(const std::vector<TokenLogprob>& tokens, std::size_t& offset) const;

  std::vector<std::size_t> offsets_;  // characters before the next token, of each choice
};

}  // namespace tqkv::server
