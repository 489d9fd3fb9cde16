// Numbers, a byte at a time. A byte is taken where some number that the node allows continues like that.
#include <algorithm>
#include <array>

#include "grammar/state.h"

namespace tqkv::grammar {
namespace {

constexpr auto powers = [] {
  std::array<std::uint64_t, 19> values{};
  values[0] = 1;
  for (std::size_t i = 1; i < values.size(); ++i) values[i] = 10 * values[i - 1];
  return values;
}();

bool digit(std::uint8_t byte) {
  return byte >= '0' && byte <= '9';
}

enum RangeStep : std::uint8_t { start, sign, integer_part, point, fraction };
constexpr std::uint8_t negative = 0x80;  // added to the step

/// Amounts without their sign, times 10^places. Empty: high < low.
struct Amounts {
  std::uint64_t low = 1, high = 0;
};

Amounts amounts(const Range& range, bool below_zero) {
  if (!below_zero && range.high >= 0)
    return {static_cast<std::uint64_t>(std::max<std::int64_t>(range.low, 0)), static_cast<std::uint64_t>(range.high)};
  if (below_zero && range.low < 0)
    return {static_cast<std::uint64_t>(std::max<std::int64_t>(-range.high, 1)), static_cast<std::uint64_t>(-range.low)};
  return {};
}

/// Whether some amount begins with `value`, to which `missing` digits and more may be added, up to `most` of them.
bool reaches(const Amounts& amounts, std::uint64_t value, int missing, int most) {
  if (amounts.high < amounts.low) return false;
  for (int digits = missing; digits <= most; ++digits) {
    const std::uint64_t power = powers[static_cast<std::size_t>(digits)];
    if (amounts.low / power <= value && value <= amounts.high / power) return true;
  }
  return false;
}

}  // namespace

// frame.value: the digits; frame.count: digits after the point.
bool range_byte(Frame& frame, std::uint8_t byte, const Node& node) {
  const Range& range = node.range;
  bool below_zero = (frame.step & negative) != 0;
  const auto step = static_cast<RangeStep>(frame.step & ~negative);
  const auto at = [&](RangeStep next) {
    frame.step = static_cast<std::uint8_t>(next | (below_zero ? negative : 0));
    return true;
  };
  if (step == start && byte == '-') {
    below_zero = true;
    const Amounts own = amounts(range, true);
    return own.low <= own.high && at(sign);
  }
  const Amounts own = amounts(range, below_zero);
  if (step == integer_part && byte == '.' && range.places > 0)
    return reaches(own, frame.value, range.places, range.places) && at(point);
  if (!digit(byte)) return false;
  if (step == integer_part && frame.value == 0) return false;  // no zero leads
  const std::uint64_t value = frame.value * 10 + static_cast<std::uint64_t>(byte - '0');
  if (step == point || step == fraction) {
    const int left = range.places - static_cast<int>(frame.count) - 1;
    if (left < 0 || !reaches(own, value, left, left)) return false;
    ++frame.count;
    frame.value = value;
    return at(fraction);
  }
  if (!reaches(own, value, range.places, value == 0 ? range.places : 18)) return false;
  frame.value = value;
  return at(integer_part);
}

bool range_ends(const Frame& frame, const Node& node) {
  const auto step = static_cast<RangeStep>(frame.step & ~negative);
  if (step != integer_part && step != fraction) return false;
  const Amounts own = amounts(node.range, (frame.step & negative) != 0);
  const int missing = node.range.places - static_cast<int>(frame.count);
  const std::uint64_t value = frame.value * powers[static_cast<std::size_t>(missing)];
  return own.low <= value && value <= own.high;
}

namespace {
enum NumberStep : std::uint8_t {
  number_start,
  number_sign,
  zero,
  whole_part,
  number_point,
  places,
  exponent,
  exponent_sign,
  exponent_digits
};
constexpr std::uint32_t most_digits = 15, most_exponent = 2;
}  // namespace

// frame.count: digits of this part.
bool number_byte(Frame& frame, std::uint8_t byte) {
  const auto at = [&](NumberStep next, std::uint32_t count = 0) {
    frame.step = next;
    frame.count = count;
    return true;
  };
  const bool letter = byte == 'e' || byte == 'E';
  switch (static_cast<NumberStep>(frame.step)) {
    case number_start:
      if (byte == '-') return at(number_sign);
      [[fallthrough]];
    case number_sign:
      return digit(byte) && at(byte == '0' ? zero : whole_part, 1);
    case zero:
      return byte == '.' ? at(number_point) : letter && at(exponent);
    case whole_part:
      if (digit(byte)) return frame.count < most_digits && at(whole_part, frame.count + 1);
      return byte == '.' ? at(number_point) : letter && at(exponent);
    case number_point:
      return digit(byte) && at(places, 1);
    case places:
      return digit(byte) ? frame.count < most_digits && at(places, frame.count + 1) : letter && at(exponent);
    case exponent:
      if (byte == '+' || byte == '-') return at(exponent_sign);
      [[fallthrough]];
    case exponent_sign:
      return digit(byte) && at(exponent_digits, 1);
    case exponent_digits:
      return digit(byte) && frame.count < most_exponent && at(exponent_digits, frame.count + 1);
  }
  return false;
}

bool number_ends(const Frame& frame) {
  return frame.step == zero || frame.step == whole_part || frame.step == places || frame.step == exponent_digits;
}

}  // namespace tqkv::grammar
