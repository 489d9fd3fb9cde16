#include "measure/recall/recall.h"

namespace tqkv::measure {

std::string_view name(AnswerMatch match) {
  return match == AnswerMatch::exact ? "exact" : "value";
}

}  // namespace tqkv::measure
