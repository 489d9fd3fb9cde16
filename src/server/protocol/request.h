// A request of either protocol, in the words of the library.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "server/protocol/api_error.h"
#include "tqkv/chat.h"
#include "tqkv/sampling.h"

namespace tqkv::server {

/// What a request says of sampling; what it does not say is the model's.
struct SamplingOverrides {
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k;

  /// `defaults` with what is said here.
  Sampling over(Sampling defaults) const;
};

enum class ToolChoice { automatic, none, required, named };
enum class ResponseFormat { text, json_object, json_schema };

using PromptText = std::string;
using PromptIds = std::vector<int>;

struct Request {
  std::string model;  ///< empty: the one that is loaded
  std::variant<Conversation, PromptText, PromptIds> prompt;
  std::vector<std::variant<PromptText, PromptIds>> more_prompts;  ///< of /v1/completions, behind the first one
  bool continues = false;  ///< the conversation ends inside an assistant's message, which the answer continues

  std::optional<bool> think;  ///< nothing: the model's default
  bool preserve_thinking = false;
  std::optional<int> max_tokens;  ///< nothing: until the context is full
  SamplingOverrides sampling;
  std::optional<std::uint64_t> seed;
  int n = 1;
  std::vector<std::string> stop;
  std::optional<int> top_logprobs;  ///< nothing: no logprobs; 0: of the chosen tokens alone
  std::vector<std::pair<int, float>> logit_bias;
  bool ignore_eos = false;
  bool echo = false;  ///< the text of the answer begins with the prompt

  bool stream = false;
  bool include_usage = false;

  ResponseFormat format = ResponseFormat::text;
  std::string schema;  ///< of json_schema: JSON text

  ToolChoice tool_choice = ToolChoice::automatic;
  std::string tool_name;  ///< of ToolChoice::named
  bool parallel_tool_calls = true;

  bool exact = false;  ///< reuse only states whose bits a new computation gives
  std::string cache;   ///< a cache format; empty: the server's

  std::vector<std::string> ignored;        ///< fields that change nothing here, to be named once in the log
  std::vector<std::string> skipped_tools;  ///< kinds of tools that no model here can call
  std::string given_back;                  ///< of /v1/responses: members of the answer that repeat the request

  /// Tools as the prompt shows them; empty: none. Those of the conversation.
  std::string_view tools() const;
};

constexpr int most_choices = 8;

/// Each reads the body of a POST. Throws ApiError 400 that names the field for anything that it cannot do.
Request parse_chat(std::string_view body);
Request parse_completion(std::string_view body);
Request parse_responses(std::string_view body);
Request parse_messages(std::string_view body);
/// A request of /v1/messages/count_tokens: there is no max_tokens.
Request parse_count_tokens(std::string_view body);
/// {"content": text}
std::string parse_tokenize(std::string_view body);
/// {"tokens": ids}
std::vector<int> parse_detokenize(std::string_view body);

}  // namespace tqkv::server
