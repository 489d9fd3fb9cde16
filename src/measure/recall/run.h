// Asks the recall set of one cache.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "measure/recall/set.h"
#include "tqkv/engine.h"

namespace tqkv::measure {

struct RecallRun {
  const Engine& engine;
  const Tokenizer& tokenizer;
  std::span<const int> stop_ids;
  AnswerMatch match = AnswerMatch::exact;
  SessionOptions session;                           // its context is set for each prompt
  std::function<void(int done, int all)> progress;  // contexts
};

/// Each context is prefilled once; a snapshot is restored before every question. Returns [context][question]: 1 where
/// the greedy answer is right.
std::vector<std::vector<int>> ask_all(const RecallRun& run, const KvFormat& format,
                                      const std::vector<PreparedContext>& contexts);

}  // namespace tqkv::measure
