// Which ids an answer may have.
#pragma once
#include <cstddef>
#include <vector>

#include "tqkv/tokenizer.h"

namespace tqkv {

/// [vocabulary]: whether the id has a token. A model's vocabulary can be larger than its tokenizer's.
inline std::vector<bool> ids_with_token(const Tokenizer& tokenizer, int vocabulary) {
  std::vector<bool> ids(static_cast<std::size_t>(vocabulary));
  for (int id = 0; id < vocabulary; ++id) ids[static_cast<std::size_t>(id)] = tokenizer.has_token(id);
  return ids;
}

}  // namespace tqkv
