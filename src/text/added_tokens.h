// Added tokens (control strings) and where they occur in a text.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::text {

struct AddedToken {
  int id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;  // looked for after NFC, in what the others leave
  bool lstrip = false;      // takes the blanks before it too
  bool rstrip = false;
};

struct AddedMatch {
  std::size_t begin, end;  // bytes, blanks that were taken included
  int id;
};

/// Finds a set of strings: leftmost first, the longest of those that start there, not overlapping.
class AddedTokenFinder {
 public:
  void add(const AddedToken& token, std::string_view content);
  bool empty() const { return tokens_.empty(); }
  std::vector<AddedMatch> find(std::string_view text) const;

 private:
  struct Token {
    int id;
    bool lstrip, rstrip;
  };
  std::vector<Token> tokens_;
  std::map<std::string, std::size_t, std::less<>> by_content_;
  std::array<std::vector<std::size_t>, 256> lengths_;  // of the contents that start with a byte, longest first
};

}  // namespace tqkv::text
