// Tokenizer: text to ids and back, as Hugging Face tokenizers does it for this tokenizer.json. Implemented in src/text.
#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv {

/// Whether control strings such as <|im_end|> inside a text become their ids or stay plain text.
enum class ControlStrings { parse, plain };

/// A control string found in a text.
struct ControlMatch {
  std::size_t begin, end;  ///< bytes
  int id;
};

/// Immutable: several callers can use it at once.
class Tokenizer {
 public:
  /// Parses tokenizer.json. `tokenizer_config` (may be empty) completes it: its pretokenize_regex goes before the split
  /// pattern of tokenizer.json where they differ (with a warning), and added tokens that only its added_tokens_decoder
  /// has are taken. `where` names the file in messages. Throws Error(tokenizer).
  static Tokenizer parse(std::string_view tokenizer_json, std::string_view tokenizer_config, std::string_view where);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Invalid UTF-8 becomes U+FFFD; `replaced`, when given, is set to the number of replacements.
  std::vector<int> encode(std::string_view text, ControlStrings control, int* replaced = nullptr) const;
  /// Text of `ids`; bytes that are no UTF-8 become U+FFFD. Ids without a token give nothing.
  std::string decode(std::span<const int> ids, bool skip_special = false) const;
  /// The raw bytes of one id: may be part of a character; empty for ids without a token.
  std::string_view bytes(int id) const;
  bool has_token(int id) const;
  bool special(int id) const;                                  ///< an added token with special = true
  std::optional<int> control_id(std::string_view text) const;  ///< id of the added token spelled `text`
  int size() const;                                            ///< largest id with a token, plus one
  /// Where the added tokens that encode() would parse lie in `text`, in ascending order.
  std::vector<ControlMatch> find_controls(std::string_view text) const;
  /// What parse() replaced or could not check, one sentence each, for the user to see.
  const std::vector<std::string>& warnings() const;

  struct Impl;  ///< of src/text

 private:
  Tokenizer();
  std::unique_ptr<Impl> impl_;
};

/// Turns a stream of ids into text that never ends inside a character.
class StreamingDetokenizer {
 public:
  /// Special tokens are dropped when `skip_special`.
  explicit StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special = true);
  std::string push(int id);  ///< the characters that are complete now
  std::string finish();      ///< what is left, with U+FFFD for bytes that are no character

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace tqkv
