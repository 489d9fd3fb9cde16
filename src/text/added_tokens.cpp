#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"

namespace tqkv::text {
namespace {

bool blank_at(std::string_view text, std::size_t at, std::size_t& length) {
  const Utf8Step step = next_character(text, at);
  length = step.length;
  return step.kind == Utf8Step::Kind::character && (character_bits(step.code_point) & class_space);
}

std::size_t blanks_before(std::string_view text, std::size_t begin, std::size_t floor) {
  while (begin > floor) {
    std::size_t start = begin - 1, length = 0;
    while (start > floor && (static_cast<std::uint8_t>(text[start]) & 0xc0u) == 0x80) --start;
    if (!blank_at(text, start, length)) break;
    begin = start;
  }
  return begin;
}

std::size_t blanks_after(std::string_view text, std::size_t end) {
  std::size_t length = 0;
  while (end < text.size() && blank_at(text, end, length)) end += length;
  return end;
}

}  // namespace

void AddedTokenFinder::add(const AddedToken& token, std::string_view content) {
  if (content.empty() || !by_content_.emplace(content, tokens_.size()).second) return;
  tokens_.push_back({token.id, token.lstrip, token.rstrip});
  auto& lengths = lengths_[static_cast<std::uint8_t>(content.front())];
  const auto at = std::lower_bound(lengths.begin(), lengths.end(), content.size(), std::greater<>());
  if (at == lengths.end() || *at != content.size()) lengths.insert(at, content.size());
}

std::vector<AddedMatch> AddedTokenFinder::find(std::string_view text) const {
  std::vector<AddedMatch> found;
  if (tokens_.empty()) return found;
  std::size_t taken = 0;  // end of the last match, blanks included
  for (std::size_t at = 0; at < text.size();) {
    const Token* token = nullptr;
    std::size_t length = 0;
    for (const std::size_t candidate : lengths_[static_cast<std::uint8_t>(text[at])]) {
      if (candidate > text.size() - at) continue;
      const auto entry = by_content_.find(text.substr(at, candidate));
      if (entry == by_content_.end()) continue;
      token = &tokens_[entry->second];
      length = candidate;
      break;
    }
    if (!token) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + length;
    if (token->lstrip) begin = blanks_before(text, begin, taken);
    if (token->rstrip) end = blanks_after(text, end);
    begin = std::max(begin, taken);
    if (end > begin) found.push_back({begin, end, token->id});
    at += length;
    taken = std::max(taken, end);
  }
  return found;
}

}  // namespace tqkv::text
