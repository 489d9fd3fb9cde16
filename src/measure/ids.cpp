#include <fmt/format.h>

#include "tqkv/benchmark.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

// The output function of SplitMix64 (Steele, Lea and Flood 2014), at step `position` of the stream `seed`.
std::uint64_t draw(std::uint64_t seed, std::uint64_t position) {
  std::uint64_t z = seed + (position + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

}  // namespace

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
    const std::uint64_t high = draw(seed, i) >> 32;
    ids[i] = with_token[static_cast<std::size_t>((high * with_token.size()) >> 32)];
  }
  return ids;
}

}  // namespace tqkv
