// The tokenizer of the bundled model, and its vocabulary.
#pragma once
#include "support/reference.h"
#include "tqkv/grammar.h"
#include "tqkv/model.h"

namespace tqkv::test {

inline const Model& model() {
  static const Model opened = Model::open(pocket_directory().string());
  return opened;
}
inline const Vocabulary& vocabulary() {
  static const Vocabulary own(model().tokenizer());
  return own;
}

}  // namespace tqkv::test
