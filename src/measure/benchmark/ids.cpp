#include <fmt/format.h>

#include "base/splitmix64.h"
#include "measure/benchmark/benchmark.h"
#include "tqkv/error.h"

namespace tqkv::measure {

std::vector<int> random_ids(const Tokenizer& tokenizer, int vocab_size, std::uint64_t seed, int count) {
  std::vector<int> with_token;
  for (int id = 0; id < vocab_size; ++id) {
    if (tokenizer.has_token(id)) with_token.push_back(id);
  }
  if (with_token.empty()) {
    throw Error(ErrorKind::tokenizer, fmt::format("tokenizer.json: none of the {} ids has a token", vocab_size));
  }
  std::vector<int> ids(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    // The high half times the count: no division, and a bias below 2^-14 for any vocabulary.
    const std::uint64_t high = splitmix64(seed, i) >> 32;
    ids[i] = with_token[static_cast<std::size_t>((high * with_token.size()) >> 32)];
  }
  return ids;
}

}  // namespace tqkv::measure
