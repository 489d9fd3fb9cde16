#include "measure/files/evaluation.h"

namespace tqkv::measure {

std::string_view name(RecallTask task) {
  switch (task) {
    case RecallTask::needle:
      return "needle";
    case RecallTask::table:
      return "table";
    case RecallTask::rooms:
      return "rooms";
    case RecallTask::variables:
      return "variables";
    case RecallTask::pairs:
      return "pairs";
    case RecallTask::numbered:
      return "numbered";
  }
  return "needle";
}

std::vector<RecallTask> all_recall_tasks() {
  return {RecallTask::needle,    RecallTask::table, RecallTask::rooms,
          RecallTask::variables, RecallTask::pairs, RecallTask::numbered};
}

std::optional<RecallTask> recall_task(std::string_view name_of_task) {
  for (const RecallTask task : all_recall_tasks()) {
    if (name(task) == name_of_task) return task;
  }
  return std::nullopt;
}

}  // namespace tqkv::measure
