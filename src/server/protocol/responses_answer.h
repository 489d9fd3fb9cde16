// OpenAI's response, and its events.
#pragma once
#include "server/protocol/answer.h"

namespace tqkv::server {

class ResponsesAnswer : public AnswerWriter {
 public:
  explicit ResponsesAnswer(AnswerHead head) : AnswerWriter(std::move(head)) {}

 private:
  std::string on_begin() override;
  std::string on_open(int choice) override;
  std::string on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) override;
  std::string on_close(int choice) override;
  std::string on_finish(int) override { return {}; }
  std::string on_end(int last_choice, const AnswerReport& report) override;
  std::string on_fail(const ApiError& error) override;
  Json whole(const AnswerReport& report) const override;

  Json response(std::string_view status) const;
  std::string item_id(std::size_t index) const;
  Json item(std::size_t index, std::string_view status) const;
  /// An event about the last item: its name and number, then `more`.
  std::string about_item(std::string_view type, Json more);
  std::string about_content(std::string_view type, Json more);
  std::string event(std::string_view type, const Json& more);

  int sequence_ = 0;
};

}  // namespace tqkv::server
