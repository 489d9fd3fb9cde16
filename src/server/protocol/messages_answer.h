// Anthropic's message, and its events.
#pragma once
#include "server/protocol/answer.h"

namespace tqkv::server {

class MessagesAnswer : public AnswerWriter {
 public:
  explicit MessagesAnswer(AnswerHead head) : AnswerWriter(std::move(head)) {}

 private:
  std::string on_begin() override;
  std::string on_open(int choice) override;
  std::string on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) override;
  std::string on_close(int choice) override;
  std::string on_finish(int) override { return {}; }
  std::string on_end(int last_choice, const AnswerReport& report) override;
  std::string on_fail(const ApiError& error) override;
  std::string on_silence() const override;
  Json whole(const AnswerReport& report) const override;
  std::string call_prefix() const override { return "toolu_"; }
  std::string whole_error(const ApiError& error) const override { return anthropic_error(error); }

  Json message() const;
  Json usage() const;
  Json block(const Part& part, bool empty) const;
  std::size_t index() const { return at(0).parts.size() - 1; }
};

}  // namespace tqkv::server
