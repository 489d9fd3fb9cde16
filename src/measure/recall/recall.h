// Recall: what is asked, and what answers add up to.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "tqkv/device.h"

namespace tqkv::measure {

/// How a share of answers is asked for; wording as in the pocket model's training.
enum class RecallTask { needle, table, rooms, variables, pairs, numbered };
std::string_view name(RecallTask task);
std::optional<RecallTask> recall_task(std::string_view name);
std::vector<RecallTask> all_recall_tasks();

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

/// Right answers with the Wilson interval of 95%.
struct Proportion {
  int asked = 0, right = 0;
  double low = 0, high = 1;
};

/// Question by question against the uncompressed cache.
struct PairedDifference {
  int only_reference = 0, only_this = 0;
  double points = 0, low = 0, high = 0;  ///< percentage points, with an interval of 95% clustered by context
  int contexts = 0;
};

/// A context of the recall set, without its text.
struct RecallContext {
  RecallTask task = RecallTask::needle;
  int length = 0;  ///< tokens asked for
  int round = 0;
  int tokens = 0;  ///< up to the question
  int questions = 0;
};

struct RecallResult {
  Precision precision = Precision::fast;
  double seconds = 0;
  std::vector<std::vector<int>> answers;  ///< [context][question]: 1 right, 0 wrong
  std::vector<std::pair<RecallTask, Proportion>> tasks;
  std::vector<std::pair<int, Proportion>> lengths;
  struct Cell {
    int length = 0;
    double depth = 0;
    Proportion of;
  };
  std::vector<Cell> needle;
  Proportion total;
  PairedDifference paired;
};

}  // namespace tqkv::measure
