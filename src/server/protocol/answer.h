// Answers in the words of each protocol: whole, or as events while they come.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/protocol/api_error.h"
#include "server/protocol/json.h"
#include "server/protocol/request.h"

namespace tqkv::server {

enum class Endpoint { chat, completion, responses, messages };

/// What is known before the first token.
struct AnswerHead {
  std::string id;            ///< unique letters and digits; those of the answer and of its calls are made from it
  std::int64_t created = 0;  ///< seconds of Unix time
  std::string model;
  int n = 1;  ///< choices: of each prompt, one after the other
  bool stream = false;
  bool include_usage = false;  ///< of OpenAI's streams
  bool logprobs = false;
  std::string given_back;  ///< Request::given_back
};

/// The head of an answer to `request`, of a model that goes by `model`.
AnswerHead head_of(const Request& request, std::string id, std::int64_t created, std::string model);

/// Tokens. Cached ones are part of the prompt's, and reasoning of the completion's.
struct AnswerUsage {
  int prompt = 0, cached = 0, completion = 0, reasoning = 0;
};

/// How a choice ended.
enum class Ending { end_of_turn, stop_string, max_tokens, context, memory };

/// What was known of a prompt: its first `from` ids; it parts from the nearest known one at `parted_at`.
struct Reuse {
  int from = 0, parted_at = 0;
  bool exact = true;  ///< with the bits that a new computation gives
};

/// The object "tqkv" of an answer.
struct AnswerReport {
  std::string cache;  ///< the cache format
  std::uint64_t seed = 0;
  std::optional<double> prompt_tps, generation_tps, queue_s;
  std::optional<Reuse> reuse;
};

struct TokenLogprob {
  std::string bytes;  ///< of the token, which may be a part of a character
  double logprob = 0;
  std::vector<std::pair<std::string, double>> top;
};

/// Every function returns what is to be sent now. Of a whole answer only end() and fail() return something, its body.
///
/// Calls come in this order: begin; for each choice thinking, then text and calls, then finish; end. The choices mix.
/// Text is whole characters.
class AnswerWriter {
 public:
  static std::unique_ptr<AnswerWriter> make(Endpoint endpoint, AnswerHead head);
  virtual ~AnswerWriter() = default;

  /// Of the usage, prompt and cached are known.
  std::string begin(const AnswerUsage& usage);
  std::string thinking(int choice, std::string_view text);
  /// `logprobs` are of the tokens that `text` ends; the text may be empty.
  std::string text(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs = {});
  std::string call_begin(int choice, std::string_view name);
  std::string call_arguments(int choice, std::string_view json);  ///< a piece of the text of an object
  std::string call_end(int choice);                               ///< not of a call that broke
  std::string finish(int choice, Ending ending, std::string_view stop_string = {});
  /// Every choice has finished.
  std::string end(const AnswerUsage& usage, const AnswerReport& report);
  /// An error in place of the rest. A stream ends with it; a whole answer has the error's status.
  std::string fail(const ApiError& error);
  /// Sent when nothing else was for a second. Empty for a whole answer.
  std::string heartbeat() const;

  const AnswerHead& head() const { return head_; }

 protected:
  enum class Kind { thinking, text, call };
  /// A part of an answer, in the order in which they came.
  struct Part {
    Kind kind;
    std::string text;      // of a call: its arguments
    std::string id, name;  // of a call
    bool whole = false;    // a call that came to its end
    std::vector<TokenLogprob> logprobs;
  };
  struct Choice {
    std::vector<Part> parts;
    bool open = false;  // the last part may continue
    bool finished = false;
    Ending ending = Ending::end_of_turn;
    std::string stop_string;

    int calls() const;        // so far
    bool asks_tools() const;  // a whole call at least
    std::string text(Kind kind) const;
  };

  explicit AnswerWriter(AnswerHead head);

  // What a stream says. The last part of the choice has what came, the new text included.
  virtual std::string on_begin() = 0;
  virtual std::string on_open(int choice);  ///< a part has begun
  virtual std::string on_piece(int choice, std::string_view text, const std::vector<TokenLogprob>& logprobs) = 0;
  virtual std::string on_close(int choice);       ///< the last part is whole, or broken off
  virtual std::string on_finish(int choice) = 0;  ///< not of the choice that finishes last: end has it
  virtual std::string on_end(int last_choice, const AnswerReport& report) = 0;
  virtual std::string on_fail(const ApiError& error) = 0;
  virtual std::string on_silence() const { return ":\n\n"; }
  virtual Json whole(const AnswerReport& report) const = 0;
  virtual std::string call_prefix() const { return "call_"; }
  virtual std::string whole_error(const ApiError& error) const { return openai_error(error); }

  Json ours(const AnswerReport& report) const;  ///< the object "tqkv"
  const Choice& at(int choice) const { return choices_[static_cast<std::size_t>(choice)]; }

  const AnswerHead head_;
  AnswerUsage usage_;
  bool begun_ = false;

 private:
  std::string add(int choice, Kind kind, std::string_view text, const std::vector<TokenLogprob>& logprobs);
  std::string close(int choice);
  Choice& of(int choice) { return choices_.at(static_cast<std::size_t>(choice)); }

  std::vector<Choice> choices_;
  int last_ = 0;  // choice that finished last
};

/// data: …, with an event: line before it where a name is given.
std::string event_text(const Json& data, std::string_view name = {});
/// "stop", "length" or "tool_calls".
std::string openai_reason(Ending ending, bool has_calls);
/// usage of chats and completions.
Json openai_usage(const AnswerUsage& usage);
/// A token as the chat protocol has it, and Responses.
Json openai_logprobs(const std::vector<TokenLogprob>& tokens);

}  // namespace tqkv::server
