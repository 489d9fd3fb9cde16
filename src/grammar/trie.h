// Trie: a few texts, byte by byte.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace tqkv::grammar {

class Trie {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  /// Texts are added in ascending order of `index`.
  void add(std::string_view text, std::uint32_t index) {
    std::uint32_t at = 0;
    nodes_[0].below.push_back(index);
    for (const char c : text) {
      const auto byte = static_cast<std::uint8_t>(c);
      std::uint32_t next = child(at, byte);
      if (next == none) {
        next = static_cast<std::uint32_t>(nodes_.size());
        nodes_.emplace_back();
        nodes_[at].children.emplace_back(byte, next);
      }
      at = next;
      if (nodes_[at].below.empty() || nodes_[at].below.back() != index) nodes_[at].below.push_back(index);
    }
    nodes_[at].text = index;
  }

  std::uint32_t child(std::uint32_t at, std::uint8_t byte) const {
    for (const auto& [own, next] : nodes_[at].children)
      if (own == byte) return next;
    return none;
  }
  bool leaf(std::uint32_t at) const { return nodes_[at].children.empty(); }
  /// The text that ends here, or none.
  std::uint32_t text(std::uint32_t at) const { return nodes_[at].text; }
  /// Texts that pass here, in ascending order.
  const std::vector<std::uint32_t>& below(std::uint32_t at) const { return nodes_[at].below; }

 private:
  struct Node {
    std::vector<std::pair<std::uint8_t, std::uint32_t>> children;
    std::vector<std::uint32_t> below;
    std::uint32_t text = none;
  };
  std::vector<Node> nodes_{1};
};

}  // namespace tqkv::grammar
