// What follows from all nodes together.
#include <fmt/format.h>

#include <algorithm>

#include "grammar/schema.h"

namespace tqkv::grammar {
namespace {

constexpr std::size_t most_passed = 256;
constexpr int endless = most_depth + 1;

/// Follows alternatives of alternatives and references to what a value can be.
void find_leaves(std::vector<Node>& nodes, std::uint32_t from) {
  std::vector<std::uint32_t> passed{from}, leaves;
  for (std::size_t i = 0; i < passed.size(); ++i)
    for (const std::uint32_t option : nodes[passed[i]].options) {
      if (option == from) refuse(nodes[from].where, "the reference leads back to itself, and nothing lies between");
      std::vector<std::uint32_t>& list = nodes[option].kind == NodeKind::alternatives ? passed : leaves;
      if (std::find(list.begin(), list.end(), option) == list.end()) list.push_back(option);
      if (leaves.size() > most_alternatives)
        refuse(nodes[from].where, fmt::format("a value has more than {} alternatives here", most_alternatives));
      if (passed.size() > most_passed) refuse(nodes[from].where, "too many references lead on from here");
    }
  nodes[from].leaves = std::move(leaves);
}

/// Levels that a value has at least, as far as they are known of its parts.
int least_depth(const std::vector<Node>& nodes, const Node& node) {
  int depth = 0;
  switch (node.kind) {
    case NodeKind::alternatives:
      depth = endless;
      for (const std::uint32_t leaf : node.leaves) depth = std::min(depth, nodes[leaf].depth);
      return depth;
    case NodeKind::object:
      for (const Property& property : node.properties)
        if (property.required) depth = std::max(depth, nodes[property.node].depth);
      return std::min(depth + 1, endless);
    case NodeKind::array:
      for (std::size_t i = 0; i < std::min<std::size_t>(node.prefix.size(), node.least); ++i)
        depth = std::max(depth, nodes[node.prefix[i]].depth);
      if (node.least > node.prefix.size()) depth = std::max(depth, nodes[node.items].depth);
      return std::min(depth + 1, endless);
    case NodeKind::tool:
      for (const Property& property : node.properties)
        if (property.required) depth = std::max(depth, nodes[property.node].depth);
      return depth;
    default:
      return 0;
  }
}

}  // namespace

void index_keys(Node& node, bool markup) {
  const bool json = node.kind == NodeKind::object;
  for (std::uint32_t i = 0; i < node.properties.size(); ++i) {
    Property& property = node.properties[i];
    property.hash = hash_of(property.name);
    node.trie.add(json ? written(property.name, markup).substr(1) : property.name + ">", i);
  }
  const auto count = static_cast<std::uint32_t>(node.properties.size());
  node.next_required.assign(count + 1, count);
  for (std::uint32_t i = count; i-- > 0;)
    node.next_required[i] = node.properties[i].required ? i : node.next_required[i + 1];
}

void complete(Grammar::Impl& grammar, std::size_t first_new) {
  std::vector<Node>& nodes = grammar.nodes;
  for (std::size_t i = first_new; i < nodes.size(); ++i) {
    if (nodes[i].kind == NodeKind::alternatives)
      find_leaves(nodes, static_cast<std::uint32_t>(i));
    else
      nodes[i].leaves = {static_cast<std::uint32_t>(i)};
    if (nodes[i].kind == NodeKind::object || nodes[i].kind == NodeKind::tool) index_keys(nodes[i], grammar.markup);
    nodes[i].depth =
        nodes[i].kind == NodeKind::alternatives || nodes[i].kind == NodeKind::object || nodes[i].kind == NodeKind::array
            ? endless
            : 0;
  }
  // Levels fall from endless to what they are: each turn finds those of one level more.
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = first_new; i < nodes.size(); ++i) {
      const int depth = least_depth(nodes, nodes[i]);
      if (depth != nodes[i].depth) changed = true;
      nodes[i].depth = depth;
    }
  }
  for (std::size_t i = first_new; i < nodes.size(); ++i) {
    if (nodes[i].depth >= endless)
      refuse(nodes[i].where,
             fmt::format("no value ends within {} levels: something required leads back to itself", most_depth));
    for (const Property& property : nodes[i].properties)
      nodes[i].deepest_part = std::max(nodes[i].deepest_part, nodes[property.node].depth);
  }
}

}  // namespace tqkv::grammar
