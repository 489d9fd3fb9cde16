// Job: a request on its way through the scheduler.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tqkv/error.h"
#include "tqkv/generate.h"
#include "tqkv/kv_format.h"

namespace tqkv::server {

/// A token that was chosen, and the most likely ones next to it: (id, natural logarithm of its probability).
struct TokenChoice {
  int id = 0;
  double logprob = 0;
  std::vector<std::pair<int, double>> top;
};

/// Takes what becomes of a job, on the thread of the scheduler. May not wait.
class Listener {
 public:
  virtual ~Listener() = default;
  /// Of those in front of it in the queue.
  virtual void queued(int place) { static_cast<void>(place); }
  /// It is admitted. `reused`: tokens of the prompt that were computed before; `parted_at`: ids in common with the
  /// nearest of them; `exact`: a new computation gives the same bits.
  virtual void started(int reused, int parted_at, bool exact) = 0;
  virtual void read(int done, int total) { static_cast<void>(done), static_cast<void>(total); }
  virtual void text(int choice, Part part, std::string_view text) = 0;
  /// The id that was drawn, where logprobs are asked for; its text may come later.
  virtual void chosen(int choice, const TokenChoice& token) { static_cast<void>(choice), static_cast<void>(token); }
  virtual void finished(int choice, const GenerateResult& result) = 0;
  /// Nothing else comes. Not called for a job that was given up.
  virtual void done() = 0;
  virtual void failed(const Error& error) = 0;
  /// Whether the reader does not keep up: no token is computed for it until it does.
  virtual bool full() const { return false; }
};

struct Job {
  std::vector<int> prompt;
  KvFormat format;
  GenerateOptions options;  ///< max_tokens 0: until the context of a request is full
  int choices = 1;
  std::optional<int> top_logprobs;
  bool exact = false;  ///< no states of answers
  std::shared_ptr<Listener> listener;
  std::atomic<bool> cancelled{false};  ///< from any thread
};

}  // namespace tqkv::server
