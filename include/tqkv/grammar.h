// Grammar: which bytes an answer may have next, for answers that must be JSON of a schema or calls of tools.
// Implemented in src/grammar.
//
// A Grammar is a pushdown automaton over bytes, a Matcher one walk through it, and a Vocabulary the bytes of a
// tokenizer's ids. Whatever the automaton lets pass can be led to an end, and the end is a value of the schema. The
// reverse does not hold: of several ways to write a value some are left out. Of JSON:
//   - Properties come in the order of `properties`; those that are not required may be left out. Others come after
//   them,
//     where additionalProperties is given and not false, or `properties` is not. No key comes twice.
//   - Between the parts of a value stands nothing, one space, or a line break with up to 32 blanks; up to two line
//   breaks
//     stand before it, and nothing after it.
//   - At most 64 levels of arrays and objects.
//   - Integers have at most 18 digits, other numbers 15 before and 15 after the point and an exponent of two; numbers
//     with bounds have 9 and 6 and no exponent. Integers are never written as 1.0 or -0.
//   - Values of enum and const, and declared keys, are written without escapes where JSON can.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tqkv/tokenizer.h"

namespace tqkv {

/// Immutable, and cheap to copy: copies share it. Several callers can use it at once.
class Grammar {
 public:
  /// A JSON object, whatever is in it.
  static Grammar json_object();
  /// A JSON value of a JSON Schema; docs/serving.md has the keywords. Throws Error(input) that names the keyword and
  /// its place for what is not known, for a schema that no value matches, or none that ends, and beyond 64 KB.
  static Grammar json_schema(std::string_view schema);
  /// Calls of tools in Qwen's markup, and nothing else: one, or up to 64 where `parallel`. `tools` is the JSON array
  /// that the model was given; with `name`, only that tool is called. Parameters come in the order of `properties`, the
  /// required ones always. Strings are text without </parameter>, other values JSON. Throws Error(input) as
  /// json_schema, for an array without a tool or of more than 1 MB, and for a name that is not there.
  static Grammar tool_calls(std::string_view tools, std::optional<std::string_view> name = {}, bool parallel = true);

  struct Impl;  ///< of src/grammar
  const Impl& impl() const { return *impl_; }

 private:
  explicit Grammar(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Where a text stands in a grammar.
class Matcher {
 public:
  explicit Matcher(Grammar grammar);
  Matcher(const Matcher& other);
  Matcher(Matcher&&) noexcept;
  Matcher& operator=(const Matcher& other);
  Matcher& operator=(Matcher&&) noexcept;
  ~Matcher();

  /// Continues with `bytes`. False where the grammar does not allow them: it stays where it was.
  bool advance(std::string_view bytes);
  bool can_end() const;   ///< the text so far is whole
  bool must_end() const;  ///< and no byte may follow

  struct State;  ///< of src/grammar
  const State& state() const { return *state_; }
  const Grammar& grammar() const { return grammar_; }

 private:
  Grammar grammar_;
  std::unique_ptr<State> state_;
};

/// The ids of a tokenizer that are text, as a trie of their bytes. Control tokens are no text, but for <tool_call> and
/// </tool_call>. Immutable: several callers can use it at once.
class Vocabulary {
 public:
  /// Throws Error(tokenizer) when a byte of UTF-8 has no token of its own: some grammars could then not continue.
  explicit Vocabulary(const Tokenizer& tokenizer);
  /// Of plain tokens: their bytes by id, "" for ids that are no text.
  explicit Vocabulary(std::span<const std::string> tokens);
  Vocabulary(Vocabulary&&) noexcept;
  Vocabulary& operator=(Vocabulary&&) noexcept;
  ~Vocabulary();
  int size() const;                     ///< largest id with a token, plus one
  std::string_view text(int id) const;  ///< its bytes; empty: it is no text

  struct Impl;  ///< of src/grammar
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Masks of one answer. The last ones are kept: inside a string, the mask is the same again and again.
class TokenMasks {
 public:
  /// `vocabulary` outlives it. Masks have `size` ids. Those of `stop_ids` are allowed where the text can end.
  TokenMasks(const Vocabulary& vocabulary, int size, std::vector<int> stop_ids);
  /// [size] ids whose bytes may come next; valid until the next call.
  const std::vector<bool>& allowed(const Matcher& matcher);

 private:
  struct Kept {
    std::vector<bool> mask;
    std::uint64_t used = 0;  // when
  };
  const Vocabulary* vocabulary_;
  std::size_t size_;
  std::vector<int> stop_ids_;
  std::unordered_map<std::string, Kept> kept_;  // by the matcher's place
  std::uint64_t calls_ = 0;
  std::vector<bool> last_;  // of a place that does not come again
};

}  // namespace tqkv
