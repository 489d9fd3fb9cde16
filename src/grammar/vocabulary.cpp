#include "grammar/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/utf8.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using grammar::TokenTrie;

constexpr std::size_t longest_token = 255;

/// Characters of a plain token, also one that is begun; nothing for another token.
std::optional<std::uint8_t> plain_characters_of(std::string_view text) {
  std::uint8_t count = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_character(text, at);
    ++count;
    if (step.kind == Utf8Step::Kind::incomplete) return count;
    if (step.kind == Utf8Step::Kind::invalid || step.code_point < 0x20) return {};
    if (step.code_point == '"' || step.code_point == '\\' || step.code_point == '<') return {};
    at += step.length;
  }
  return count;
}

TokenTrie trie_of(std::vector<int> ids, const std::vector<std::string>& texts) {
  const auto text = [&](int id) -> const std::string& { return texts[static_cast<std::size_t>(id)]; };
  std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) { return text(a) < text(b); });
  TokenTrie trie;
  std::vector<std::size_t> open;  // nodes from the root to here
  const auto close = [&](std::size_t depth) {
    for (; open.size() > depth; open.pop_back())
      trie.nodes[open.back()].end = static_cast<std::uint32_t>(trie.nodes.size());
  };
  std::string_view before;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::string& own = text(ids[i]);
    const auto shared = static_cast<std::size_t>(
        std::mismatch(before.begin(), before.end(), own.begin(), own.end()).first - before.begin());
    close(shared);
    for (std::size_t depth = shared; depth < own.size(); ++depth) {
      open.push_back(trie.nodes.size());
      const auto here = static_cast<std::uint32_t>(i);
      trie.nodes.push_back({0, here, here, static_cast<std::uint8_t>(own[depth]), static_cast<std::uint8_t>(depth)});
    }
    trie.nodes[open.back()].last = static_cast<std::uint32_t>(i + 1);
    before = own;
  }
  close(0);
  trie.ids = std::move(ids);
  return trie;
}

std::vector<std::string> texts_of(const Tokenizer& tokenizer) {
  std::vector<std::string> texts(static_cast<std::size_t>(tokenizer.size()));
  for (int id = 0; id < tokenizer.size(); ++id) {
    if (!tokenizer.has_token(id) || tokenizer.special(id)) continue;
    const std::string_view text = tokenizer.bytes(id);
    const bool control = tokenizer.control_id(text) == id && text != "<tool_call>" && text != "</tool_call>";
    if (!control) texts[static_cast<std::size_t>(id)] = text;
  }
  return texts;
}

}  // namespace

Vocabulary::Impl::Impl(std::vector<std::string> tokens) : texts(std::move(tokens)) {
  std::vector<int> other_ids;
  std::array<bool, 256> single{};
  for (std::size_t id = 0; id < texts.size(); ++id) {
    const std::string& text = texts[id];
    if (text.empty() || text.size() > longest_token) continue;
    if (text.size() == 1) single[static_cast<std::uint8_t>(text[0])] = true;
    longest = std::max(longest, static_cast<std::uint32_t>(text.size()));
    const auto characters = plain_characters_of(text);
    (characters ? plain_ids : other_ids).push_back(static_cast<int>(id));
    if (characters) plain_characters.push_back(*characters);
  }
  for (int byte = 0x20; byte <= 0xf4; ++byte)
    if (byte != 0x7f && byte != 0xc0 && byte != 0xc1 && !single[static_cast<std::size_t>(byte)])
      throw Error(
          ErrorKind::tokenizer,
          fmt::format("vocabulary: no token is the byte {:#04x} alone: answers cannot be held to a grammar", byte));
  if (!single['\n'])
    throw Error(ErrorKind::tokenizer,
                "vocabulary: no token is a line break alone: answers cannot be held to a grammar");
  plain = trie_of(plain_ids, texts);
  others = trie_of(std::move(other_ids), texts);
}

Vocabulary::Vocabulary(const Tokenizer& tokenizer) : impl_(std::make_unique<Impl>(texts_of(tokenizer))) {}
Vocabulary::Vocabulary(std::span<const std::string> tokens)
    : impl_(std::make_unique<Impl>(std::vector<std::string>(tokens.begin(), tokens.end()))) {}
Vocabulary::Vocabulary(Vocabulary&&) noexcept = default;
Vocabulary& Vocabulary::operator=(Vocabulary&&) noexcept = default;
Vocabulary::~Vocabulary() = default;

int Vocabulary::size() const {
  return static_cast<int>(impl_->texts.size());
}

std::string_view Vocabulary::text(int id) const {
  return id >= 0 && id < size() ? std::string_view(impl_->texts[static_cast<std::size_t>(id)]) : std::string_view();
}

}  // namespace tqkv
