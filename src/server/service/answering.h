// Answering: a request whose answer is on its way: what the scheduler says becomes what the protocol sends.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/exchange.h"
#include "server/protocol/answer.h"
#include "server/protocol/tool_splitter.h"
#include "server/schedule/job.h"
#include "server/service/access.h"
#include "tqkv/tokenizer.h"

namespace tqkv::server {

/// What an answer says about itself, and what was counted.
struct Account {
  std::string id;
  Route route = Route::unknown;
  int prompt = 0, reused = 0, parted_at = 0, completion = 0;
  double queued_s = 0, first_token_s = 0, seconds = 0;
  bool failed = false, gone = false;
};

/// Of one request; its jobs share it. Lives as long as one of them does. What it does happens on one thread at a time.
class Answering : public std::enable_shared_from_this<Answering> {
 public:
  struct Setup {
    std::string id;  ///< unique
    Route route = Route::chat;
    AnswerHead head;
    std::string cache;                ///< the format
    std::vector<std::string> echoes;  ///< of the jobs: texts that their answers begin with; empty: none
    std::uint64_t seed = 0;
    std::string tools;             ///< JSON that the model was given; empty: none
    std::optional<int> think_end;  ///< the id behind which the answer comes
    bool opens_thinking = false;
  };
  using Closed = std::function<void(const Account& account)>;

  /// `tokenizer` outlives it. `closed` is called once, when the last job has ended.
  Answering(std::shared_ptr<http::Exchange> exchange, const Tokenizer& tokenizer, Setup setup, Closed closed);
  ~Answering();

  /// Makes this the listener of every job, the first one's choices first. Then, for a stream, its headers are sent.
  void attach(const std::vector<std::shared_ptr<Job>>& jobs);
  /// The queue did not take it, or what else comes before anything was sent.
  void refuse(const ApiError& error);

 private:
  class Voice;
  struct Heard {
    ToolSplitter splitter;
    std::string text;                  // with logprobs: waits for its token
    std::vector<TokenLogprob> tokens;  // wait for their text
    std::string echo;                  // comes first
    explicit Heard(std::string_view tools) : splitter(tools) {}
  };

  void queued(int place);
  void started(const Reuse& reuse);
  void read(int done, int total);
  void text(int choice, Part part, std::string_view text);
  void chosen(int choice, const TokenChoice& token);
  void finished(int choice, const GenerateResult& result);
  void done();
  void failed(const Error& error);
  void send(std::string text);
  void begin(int choice);
  void say(int choice, std::string_view text);
  void say(int choice, const std::vector<ToolEvent>& events);
  void comment(const std::string& text);
  void close(bool failed);
  TokenLogprob named(const TokenChoice& token) const;
  double since_start() const;

  std::shared_ptr<http::Exchange> exchange_;
  const Tokenizer& tokenizer_;
  Setup setup_;
  Closed closed_;
  std::unique_ptr<AnswerWriter> writer_;
  std::vector<Heard> heard_;  // of the choices
  std::vector<std::weak_ptr<Job>> jobs_;
  AnswerUsage usage_;
  AnswerReport report_;
  Account account_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int open_ = 0, unstarted_ = 0;  // jobs
  int last_place_ = 0;
  bool begun_ = false, over_ = false;
};

}  // namespace tqkv::server
