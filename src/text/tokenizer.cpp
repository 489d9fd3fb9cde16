#include "tqkv/tokenizer.h"

#include <fmt/format.h>

#include <limits>
#include <unordered_map>

#include "text/tokenizer_impl.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv {

Tokenizer::Tokenizer() : impl_(std::make_unique<Impl>()) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, std::string_view tokenizer_config, std::string_view where) {
  Tokenizer tokenizer;
  tokenizer.impl_->load(tokenizer_json, tokenizer_config, where);
  return tokenizer;
}

void Tokenizer::Impl::encode_words(std::string_view text, std::vector<int>& ids) const {
  // Words repeat: the ids of one that was seen in this text are copied from where they stand in `ids`.
  struct Seen {
    std::size_t first, count;
  };
  constexpr std::size_t longest_remembered = 64, most_remembered = 1 << 16;
  std::unordered_map<std::string_view, Seen> seen;
  text::Bpe::Scratch scratch;
  std::size_t begin = 0;
  for (const std::size_t end : splitter->ends(text)) {
    const std::string_view word = text.substr(begin, end - begin);
    begin = end;
    const auto before = seen.find(word);
    const std::size_t first = ids.size();
    if (before != seen.end()) {
      for (std::size_t i = 0; i < before->second.count; ++i) ids.push_back(ids[before->second.first + i]);
      continue;
    }
    bpe.encode(word, scratch, ids);
    if (word.size() <= longest_remembered && seen.size() < most_remembered) {
      seen.emplace(word, Seen{first, ids.size() - first});
    }
  }
}

void Tokenizer::Impl::encode_stretch(std::string_view text, bool controls, std::vector<int>& ids) const {
  std::string changed;
  if (normalize && !text::surely_nfc(text)) {
    changed = text::nfc(text);
    text = changed;
  }
  std::size_t done = 0;
  if (controls) {
    for (const text::AddedMatch& match : normalized.find(text)) {
      encode_words(text.substr(done, match.begin - done), ids);
      ids.push_back(match.id);
      done = match.end;
    }
  }
  encode_words(text.substr(done), ids);
}

std::vector<int> Tokenizer::encode(std::string_view text, ControlStrings control, int* replaced) const {
  if (text.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()) / 4) {
    throw Error(ErrorKind::input,
                fmt::format("text: it has {} bytes, at most 536870911 can be tokenized", text.size()));
  }
  std::string repaired;
  int count = 0;
  if (!text::valid_utf8(text)) {
    count = text::append_lossy(repaired, text);
    text = repaired;
  }
  if (replaced) *replaced = count;
  std::vector<int> ids;
  std::size_t done = 0;
  const bool controls = control == ControlStrings::parse;
  if (controls) {
    for (const text::AddedMatch& match : impl_->raw.find(text)) {
      impl_->encode_stretch(text.substr(done, match.begin - done), controls, ids);
      ids.push_back(match.id);
      done = match.end;
    }
  }
  impl_->encode_stretch(text.substr(done), controls, ids);
  return ids;
}

std::vector<ControlMatch> Tokenizer::find_controls(std::string_view text) const {
  std::vector<ControlMatch> result;
  const auto within = [&](std::size_t begin, std::size_t end) {
    for (const text::AddedMatch& match : impl_->normalized.find(text.substr(begin, end - begin))) {
      result.push_back({begin + match.begin, begin + match.end, match.id});
    }
  };
  std::size_t done = 0;
  for (const text::AddedMatch& match : impl_->raw.find(text)) {
    within(done, match.begin);
    result.push_back({match.begin, match.end, match.id});
    done = match.end;
  }
  within(done, text.size());
  return result;
}

std::string Tokenizer::decode(std::span<const int> ids, bool skip_special) const {
  std::string raw;
  for (const int id : ids) {
    if (!(skip_special && special(id))) raw.append(bytes(id));
  }
  std::string out;
  out.reserve(raw.size());
  text::append_lossy(out, raw);
  return out;
}

bool Tokenizer::has_token(int id) const {
  return id >= 0 && static_cast<std::size_t>(id) < impl_->tokens.size() &&
         impl_->tokens[static_cast<std::size_t>(id)].present;
}

std::string_view Tokenizer::bytes(int id) const {
  if (!has_token(id)) return {};
  const Impl::Token& token = impl_->tokens[static_cast<std::size_t>(id)];
  return std::string_view(impl_->bytes).substr(token.begin, token.size);
}

bool Tokenizer::special(int id) const {
  return has_token(id) && impl_->tokens[static_cast<std::size_t>(id)].special;
}

std::optional<int> Tokenizer::control_id(std::string_view text) const {
  const auto found = impl_->added.find(text);
  return found == impl_->added.end() ? std::nullopt : std::optional<int>(found->second);
}

int Tokenizer::size() const {
  return static_cast<int>(impl_->tokens.size());
}

const std::vector<std::string>& Tokenizer::warnings() const {
  return impl_->warnings;
}

StreamingDetokenizer::StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {}

std::string StreamingDetokenizer::push(int id) {
  std::string out;
  if (skip_special_ && tokenizer_->special(id)) return out;
  const std::string bytes = pending_ + std::string(tokenizer_->bytes(id));
  text::append_lossy(out, bytes, true, &pending_);
  return out;
}

std::string StreamingDetokenizer::finish() {
  std::string out;
  text::append_lossy(out, pending_);
  pending_.clear();
  return out;
}

}  // namespace tqkv
