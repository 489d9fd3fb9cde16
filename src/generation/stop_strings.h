// StopStrings: ends an answer where it would say one of a few texts, whatever pieces it comes in.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace tqkv {

/// Text is given as it comes. Of several matches, the one that ends first counts, so that the cuts between pieces
/// change nothing; of those that end together, the longest.
class StopStrings {
 public:
  /// Throws Error(usage) for an empty string, or one that is not UTF-8.
  explicit StopStrings(std::vector<std::string> strings);
  /// The text that can be shown now: up to the match, and without an end that may become one. Empty after a match.
  std::string push(std::string_view text);
  /// What was kept back, when no more text comes.
  std::string finish();
  /// The string that was found; empty: none yet.
  const std::string& found() const { return found_; }

 private:
  std::vector<std::string> strings_;
  std::string kept_;  // not shown yet: begins one of the strings
  std::string found_;
};

}  // namespace tqkv
