// Random choices of the recall set: a function of numbers alone, so that every machine asks the same questions.
#pragma once
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace tqkv::measure {

/// SplitMix64 addressed by a counter: draw n of stream s is mix(s + (n + 1) · 0x9e3779b97f4a7c15), and the stream of
/// the numbers a, b, … is s = mix(… mix(mix(a) + b) …).
class Draws {
 public:
  explicit Draws(std::initializer_list<std::uint64_t> numbers) {
    for (const std::uint64_t number : numbers) stream_ = mix(stream_ + number);
  }
  std::uint64_t next() { return mix(stream_ + ++count_ * 0x9e3779b97f4a7c15ull); }
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
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  std::uint64_t stream_ = 0x9e3779b97f4a7c15ull, count_ = 0;
};

}  // namespace tqkv::measure
