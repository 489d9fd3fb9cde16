#include "generation/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "tqkv/error.h"

namespace tqkv {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  for (const std::string& string : strings_) {
    if (string.empty()) throw Error(ErrorKind::usage, "stop string: it is empty: give some text");
    if (!valid_utf8(string)) throw Error(ErrorKind::usage, "stop string: it is not UTF-8");
  }
}

std::string StopStrings::push(std::string_view text) {
  if (strings_.empty()) return std::string(text);
  std::string shown;
  for (const char byte : text) {
    if (!found_.empty()) break;
    kept_ += byte;
    for (const std::string& string : strings_)
      if (kept_.ends_with(string) && string.size() > found_.size()) found_ = string;
    if (!found_.empty()) {
      shown += kept_.substr(0, kept_.size() - found_.size());
      kept_.clear();
      break;
    }
    const auto begins_one = [&](std::string_view end) {
      return std::any_of(strings_.begin(), strings_.end(), [&](const std::string& s) { return s.starts_with(end); });
    };
    std::size_t from = 0;
    while (from < kept_.size() && !begins_one(std::string_view(kept_).substr(from))) ++from;
    shown += kept_.substr(0, from);
    kept_.erase(0, from);
  }
  return shown;
}

std::string StopStrings::finish() {
  return std::exchange(kept_, "");
}

}  // namespace tqkv
