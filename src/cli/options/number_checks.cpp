#include "cli/options/number_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>
#include <string_view>

#include "loaders/tensor_names.h"

namespace tqkv::cli {
namespace {

bool only_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Digits without zeros in front; "0" for zero.
std::string_view without_zeros(std::string_view digits) {
  while (digits.size() > 1 && digits.front() == '0') digits.remove_prefix(1);
  return digits;
}

std::string refusal(std::string_view text, std::string_view expected) {
  return fmt::format("\"{}\" is not {}", shown(text), expected);
}

std::string check_whole(std::string& text, std::int64_t least, std::uint64_t most) {
  const std::string expected = fmt::format("a whole number from {} to {}", least, most);
  std::string_view digits = text;
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.remove_prefix(1);
  if (!only_digits(digits)) return refusal(text, expected);
  digits = without_zeros(digits);
  std::uint64_t size = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), size);
  if (error != std::errc()) return refusal(text, expected);
  // Of a negative number the size is compared: the least number of all has no positive counterpart.
  const bool fits = negative && size > 0 ? least < 0 && size <= static_cast<std::uint64_t>(-(least + 1)) + 1
                                         : size <= most && (least <= 0 || size >= static_cast<std::uint64_t>(least));
  if (!fits) return refusal(text, expected);
  text = (negative && size > 0 ? "-" : "") + std::string(digits);
  return "";
}

std::string check_size(std::string& text) {
  struct Unit {
    std::string_view name;
    std::uint64_t bytes;
  };
  static constexpr Unit units[] = {{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
                                   {"kB", 1000},     {"MB", 1000000},  {"GB", 1000000000}};
  const std::string expected = "a size in bytes: 2000000000, 2GB or 1900MiB";
  std::string_view digits = text;
  std::uint64_t bytes = 1;
  for (const Unit& unit : units)
    if (digits.ends_with(unit.name)) {
      digits.remove_suffix(unit.name.size());
      bytes = unit.bytes;
      break;
    }
  std::string number(digits.substr(0, digits.find_last_not_of(' ') + 1));
  if (number.starts_with('-') || !check_whole(number, 0, (std::uint64_t{1} << 62) / bytes).empty())
    return refusal(text, expected);
  text = std::to_string(std::stoull(number) * bytes);
  return "";
}

std::string check_real(const std::string& text, double least, double most) {
  const bool bounded = least > std::numeric_limits<double>::lowest() || most < std::numeric_limits<double>::max();
  const std::string expected = bounded ? fmt::format("a number from {} to {}", least, most) : "a number";
  const bool decimal = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
  });
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || !decimal || end != text.c_str() + text.size() || !std::isfinite(value) || value < least ||
      value > most)
    return refusal(text, expected);
  return "";
}

}  // namespace

CLI::Validator whole_number(std::int64_t least, std::uint64_t most) {
  return {[least, most](std::string& text) { return check_whole(text, least, most); }, ""};
}

CLI::Validator byte_size() {
  return {[](std::string& text) { return check_size(text); }, ""};
}

CLI::Validator real_number(double least, double most) {
  return {[least, most](std::string& text) { return check_real(text, least, most); }, ""};
}

}  // namespace tqkv::cli
