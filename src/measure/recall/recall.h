// Recall: what is asked. files/evaluation.h has what answers add up to.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "measure/files/evaluation.h"

namespace tqkv::measure {

/// When an answer is right.
enum class AnswerMatch {
  exact,  ///< its text is the expected sentence
  value   ///< the value stands in it as a word: for models that were not trained on the sentences
};
std::string_view name(AnswerMatch match);

struct RecallOptions {
  std::vector<int> lengths = {1024, 2048, 4096};         ///< tokens up to the question
  std::vector<double> depths = {0, 0.25, 0.5, 0.75, 1};  ///< of needles: share of the text before them
  std::vector<RecallTask> tasks = all_recall_tasks();
  int answers = 64;   ///< at least so many; whole rounds are asked
  int questions = 8;  ///< a context, where a task has that many; a needle context has one a depth
  std::uint64_t seed = 0;
  AnswerMatch match = AnswerMatch::exact;
};

}  // namespace tqkv::measure
