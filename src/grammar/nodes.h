// What a Grammar is made of: a node for each place of a schema.
#pragma once
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "grammar/trie.h"
#include "tqkv/grammar.h"

namespace tqkv {
namespace grammar {

constexpr std::uint32_t unbounded = std::numeric_limits<std::uint32_t>::max(), no_node = unbounded;
constexpr int most_depth = 64;            // levels of arrays and objects
constexpr std::uint8_t most_indent = 32;  // blanks after a line break
constexpr std::uint8_t most_lines = 2;    // empty ones before the answer
constexpr int most_calls = 64;            // of tools
constexpr std::size_t most_alternatives = 64, most_threads = 64;

enum class NodeKind : std::uint8_t {
  alternatives,  // one of `leaves`
  literals,      // a text of `trie`
  string,        // `least` to `most` characters
  range,         // an integer, or a number with bounds
  number,
  object,
  array,
  raw,   // a tool's parameter: text up to its closing tag, `least` to `most` characters
  tool,  // its parameters are `properties`
  calls  // of tools, `properties`
};

/// Decimal numbers from `low` to `high`, both times 10^places.
struct Range {
  std::int64_t low = 0, high = 0;
  int places = 0;
};
constexpr std::int64_t most_integer = 999'999'999'999'999'999;  // 18 digits
constexpr Range any_integer{-most_integer, most_integer, 0};
constexpr std::int64_t most_scaled = 999'999'999'999'999;  // 9 digits and 6 places

struct Property {
  std::string name;
  std::uint32_t node = 0;
  bool required = false;
  std::uint64_t hash = 0;  // of the name's characters
};

struct Node {
  NodeKind kind = NodeKind::alternatives;
  std::string where;                          // for messages
  std::vector<std::uint32_t> options;         // alternatives, as the schema has them
  std::vector<std::uint32_t> leaves;          // and what they come to, without alternatives in it; of others: itself
  Trie trie;                                  // literals as they are written; keys with the byte that ends them
  std::vector<std::string> strings;           // literals that are strings, as they are
  std::uint32_t least = 0, most = unbounded;  // characters of a string, items of an array
  Range range;
  std::vector<Property> properties;
  std::vector<std::uint32_t> next_required;  // [properties + 1] the first required one from here on
  std::uint32_t extra = no_node;             // values of other keys; no_node: there are none
  std::vector<std::uint32_t> prefix;         // the first items
  std::uint32_t items = no_node;             // those after them; no_node: there are none
  int depth = 0;                             // levels that a value has at least
  int deepest_part = 0;                      // the most of its properties
  bool parallel = false;                     // calls
};

/// Hash of a text, one character after the other, from `start_hash`.
constexpr std::uint64_t start_hash = 0xcbf29ce484222325;
constexpr std::uint64_t add_character(std::uint64_t hash, std::uint32_t character) {
  hash = (hash ^ character) * 0x9e3779b97f4a7c15;
  return hash ^ (hash >> 29);
}
std::uint64_t hash_of(std::string_view text);

}  // namespace grammar

struct Grammar::Impl {
  std::vector<grammar::Node> nodes;
  std::uint32_t root = 0;
  bool markup = false;  // values lie inside tags: strings are written without "</"
};

}  // namespace tqkv
