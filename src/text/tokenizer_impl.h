// What a Tokenizer is made of.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/splitter.h"
#include "tqkv/tokenizer.h"

namespace tqkv {

struct Tokenizer::Impl {
  struct Token {
    std::uint32_t begin = 0, size = 0;  // of its bytes
    bool present = false;
    bool special = false;
  };

  std::string bytes;                              // of all tokens, one behind the other
  std::vector<Token> tokens;                      // by id
  std::map<std::string, int, std::less<>> added;  // content -> id
  text::Bpe bpe;
  std::optional<text::Splitter> splitter;
  bool normalize = false;  // NFC
  text::AddedTokenFinder raw, normalized;
  std::vector<std::string> warnings;

  /// Reads both files. Throws Error(tokenizer).
  void load(std::string_view tokenizer_json, std::string_view tokenizer_config, std::string_view where);

  /// Gives `id` < tokens.size() its bytes.
  void put(int id, std::string_view token);
  void encode_stretch(std::string_view text, bool controls, std::vector<int>& ids) const;
  void encode_words(std::string_view text, std::vector<int>& ids) const;
};

}  // namespace tqkv
