// HeldAnswer: an answer that keeps to a grammar, from the end of thinking on.
#pragma once
#include <cstddef>
#include <optional>
#include <vector>

#include "tqkv/generate.h"
#include "tqkv/grammar.h"

namespace tqkv {

class HeldAnswer {
 public:
  /// Throws Error(usage) where the grammar has no vocabulary.
  HeldAnswer(const GenerateOptions& options, const Tokenizer& tokenizer);
  /// Null where `id` may come next, else the ids [vocab] that may; valid until the next call.
  const std::vector<bool>* instead_of(int id, std::size_t vocab);
  /// Throws Error(internal) for an id that may not come.
  void take(int id);
  bool must_end() const { return !thinking_ && matcher_.must_end(); }

 private:
  bool stops(int id) const;
  bool may_come(int id) const;

  Matcher matcher_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<int> stop_ids_;
  std::optional<int> close_;  // the end of thinking
  bool thinking_;
  std::optional<TokenMasks> masks_;
  std::vector<bool> in_thought_;  // all ids but the stop ids
};

}  // namespace tqkv
