// Words that recall tasks are made of: those of the pocket model's training.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "measure/recall/draws.h"

namespace tqkv::measure {

const std::vector<std::string>& first_names();
const std::vector<std::string>& things();
const std::vector<std::string>& places();
/// "secret code", "locker number" …
const std::vector<std::string>& fact_fields();

/// Words for values, pairs and lists: three in ten from a short list, the others from the frequent ones of a text.
class Vocabulary {
 public:
  /// Takes the 4,000 most frequent words of 4 to 10 lower-case letters; equally frequent ones in the order of the
  /// alphabet.
  explicit Vocabulary(std::string_view text);
  const std::string& word(Draws& draws) const;
  const std::vector<std::string>& common() const { return common_; }

 private:
  std::vector<std::string> common_;
};

}  // namespace tqkv::measure
