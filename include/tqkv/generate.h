// Generation: ids in, text out, one sampled id after the other. Implemented in src/generation.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tqkv/cuts.h"
#include "tqkv/engine.h"
#include "tqkv/grammar.h"
#include "tqkv/sampling.h"
#include "tqkv/tokenizer.h"

namespace tqkv {

enum class FinishReason {
  stop,     ///< the model ended its answer, or said a stop string
  length,   ///< max_tokens were generated
  context,  ///< the session is full
  cancelled,
  memory  ///< the machine has no room for the next step (MemoryGuard)
};
std::string_view name(FinishReason reason);

enum class Part { thinking, answer };
/// Takes text as it comes: whole characters, never part of one.
using TextSink = std::function<void(Part part, std::string_view text)>;

struct GenerateOptions {
  Sampling sampling;
  std::vector<int> stop_ids;              ///< end the answer; not part of its text
  std::vector<bool> allowed;              ///< [vocab] ids to choose from; empty: all that have a token
  std::vector<std::string> stop_strings;  ///< the answer ends before the first one; thinking does not
  /// What the answer may be, from the end of thinking on: an id that it refuses is drawn again from those that it
  /// allows. The answer can end only where it is whole, and thinking not before its end.
  std::optional<Grammar> grammar;
  std::shared_ptr<const Vocabulary> vocabulary;  ///< of the tokenizer, for the grammar: answers share one
  int max_tokens = 0;                            ///< most ids to generate; 0: until the session is full
  bool split_thinking = true;                    ///< tell <think> … </think> apart from the answer
  bool opens_thinking = false;                   ///< the prompt ends inside a think block
  bool skip_special = true;                      ///< leave special tokens out of the text
  CutRule cuts;                                  ///< of the prompt
  std::vector<int> kept;  ///< cuts of the prompt, in ids of it, where a snapshot is wanted; or its end
  std::function<void(std::unique_ptr<Snapshot>)> keep;  ///< takes them
  const std::atomic<bool>* cancel = nullptr;            ///< looked at where prefill() can stop, and before every id
  std::function<void(int done, int total)> progress;    ///< of the prompt, after every chunk
  std::uint64_t weights = 0;  ///< bytes that the engine maps: watched that they stay in memory; 0: not
  std::function<void(std::string_view line)> notice;  ///< something that the user should know, once
};

/// Seconds and tokens a second; nothing where there was nothing to time.
struct GenerateStatistics {
  int prompt_tokens = 0;
  int generated_tokens = 0;              ///< the stop id counts
  std::optional<double> prompt_tps;      ///< prompt tokens / time to the logits of the last one fed
  std::optional<double> generation_tps;  ///< decode steps / their time, sampling excluded; one step less than tokens
  std::optional<double> time_to_first_token;
  double wall = 0.0;                 ///< prefill, decode, sampling and sink
  std::uint64_t peak_anonymous = 0;  ///< bytes of RssAnon, the largest seen after a chunk or a step
  std::uint64_t major_faults = 0;    ///< pages that had to be read from a disk
};

struct GenerateResult {
  std::string thinking, answer;
  std::vector<int> ids;  ///< generated, the stop id included
  FinishReason reason = FinishReason::stop;
  std::string stop_string;      ///< FinishReason::stop: the stop string that ended the answer; empty: a stop id
  std::string stopped_by;       ///< FinishReason::memory: what the guard said
  bool ended_thinking = false;  ///< the text ends inside a think block
  GenerateStatistics statistics;
  CacheReport cache;
};

/// Feeds `prompt` to the session and samples until a stop id, a stop string, max_tokens or the end of the context. The
/// last sampled id is not fed. Ids without a token are never chosen. An empty prompt continues from the session's last
/// logits. Throws Error(input) for an empty prompt where there are none, or one that the session has no room for,
/// Error(usage) for a stop string that is empty or not UTF-8, and for a grammar without a vocabulary, and what the
/// session and the sink throw; but if memory runs out after the prompt, the answer ends there.
GenerateResult generate(Session& session, const Tokenizer& tokenizer, std::span<const int> prompt,
                        const GenerateOptions& options, const TextSink& sink = {});

}  // namespace tqkv
