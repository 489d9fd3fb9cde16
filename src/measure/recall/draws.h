// Random choices of the recall set: a function of numbers alone, so that every machine asks the same questions.
#pragma once
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "base/splitmix64.h"

namespace tqkv::measure {

/// Draw n of stream s is splitmix64(s, n), and the stream of the numbers a, b, … is s = mix(… mix(mix(a) + b) …), mix
/// the output function of SplitMix64.
class Draws {
 public:
  explicit Draws(std::initializer_list<std::uint64_t> numbers) {
    for (const std::uint64_t number : numbers) stream_ = splitmix64_mix(stream_ + number);
  }
  std::uint64_t next() { return splitmix64(stream_, count_++); }
  /// Below `count`: the high 32 bits times `count`, over 2^32.
  std::size_t below(std::size_t count) {
    assert(count > 0 && count <= 0xffffffffu);
    return static_cast<std::size_t>(((next() >> 32) * count) >> 32);
  }
  bool chance(int percent) { return below(100) < static_cast<std::size_t>(percent); }
  template <class T>
  const T& choice(const std::vector<T>& values) {
    return values[below(values.size())];
  }
  /// `count` different values, at most all of them, in the order drawn.
  template <class T>
  std::vector<T> sample(std::vector<T> values, std::size_t count) {
    for (std::size_t i = 0; i < count && i < values.size(); ++i)
      std::swap(values[i], values[i + below(values.size() - i)]);
    if (count < values.size()) values.erase(values.begin() + static_cast<std::ptrdiff_t>(count), values.end());
    return values;
  }

 private:
  std::uint64_t stream_ = splitmix64_step, count_ = 0;
};

}  // namespace tqkv::measure
