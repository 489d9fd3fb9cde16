// Splitter: the pre-tokenizer's pattern, compiled once by PCRE2. Immutable, usable from many threads.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::text {

class Splitter {
 public:
  /// Throws Error(tokenizer) for a pattern that PCRE2 does not take.
  Splitter(std::string pattern, std::string_view where);
  Splitter(Splitter&&) noexcept;
  Splitter& operator=(Splitter&&) noexcept;
  ~Splitter();

  /// Ends of the pieces of `text` (valid UTF-8) in ascending order, the last one text.size(): every match is a piece,
  /// and so is what lies between two matches. Throws Error(tokenizer) when matching exceeds its limits.
  std::vector<std::size_t> ends(std::string_view text) const;

  const std::string& pattern() const { return pattern_; }
  /// Whether the pattern sees characters beyond ASCII only through \p{L}, \p{M}, \p{N} and \s, so that stand_ins()
  /// applies.
  bool by_class() const { return by_class_; }

 private:
  struct Code;
  std::string pattern_;
  bool by_class_ = false;
  std::unique_ptr<Code> code_;
};

}  // namespace tqkv::text
