// The bytes of a vocabulary, as tries that are walked together with the automaton.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tqkv/grammar.h"

namespace tqkv {
namespace grammar {

/// A trie in the order of its texts: a node's subtree lies behind it.
struct TokenTrie {
  struct Node {
    std::uint32_t end = 0;              // of its subtree
    std::uint32_t first = 0, last = 0;  // in `ids`: tokens that end here
    std::uint8_t byte = 0;
    std::uint8_t depth = 0;  // bytes before it, at most 255: longer tokens are left out
  };
  std::vector<Node> nodes;
  std::vector<int> ids;
};

}  // namespace grammar

/// A plain token is UTF-8 from its beginning on, without control bytes, '"', '\' and '<': inside a string it may stand
/// wherever there is room for its characters.
struct Vocabulary::Impl {
  std::vector<std::string> texts;  // by id
  grammar::TokenTrie plain, others;
  std::vector<int> plain_ids;
  std::vector<std::uint8_t> plain_characters;  // of each; one that is begun counts
  std::uint32_t longest = 0;                   // bytes of a token

  explicit Impl(std::vector<std::string> tokens);
};

}  // namespace tqkv
