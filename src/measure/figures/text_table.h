// Columns of text for a terminal.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::measure {

/// The first column is aligned left, the others right; two spaces between columns.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header);
  void add(std::vector<std::string> row);
  /// Every line ended by a line break, without spaces at its end.
  std::string text(std::string_view indent = "") const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// Millions of bytes with two decimals: "80.12"
std::string megabytes(std::uint64_t bytes);
/// Billions of bytes with three decimals: "20.397"
std::string gigabytes(std::uint64_t bytes);
/// Four significant digits at least, so that 1234.5 and 0.01234 both read well.
std::string rounded(double value);

}  // namespace tqkv::measure
