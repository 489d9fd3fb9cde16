// Vectors that an encoder could be given: ordinary ones, those at the ends of what f32 and f16 have, and some whose
// coordinates are on thresholds.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "base/splitmix64.h"
#include "codec/codebook.h"
#include "kernel_inputs.h"
#include "ties.h"

namespace tqkv::test {

/// Vectors of every kind that a cache could be given, one behind another.
class Vectors {
 public:
  explicit Vectors(int dim) : dim_(static_cast<std::size_t>(dim)) {}
  const std::vector<float>& values() const { return values_; }
  int count() const { return static_cast<int>(values_.size() / dim_); }

  void add(const std::function<float(std::size_t channel)>& value) {
    for (std::size_t channel = 0; channel < dim_; ++channel) values_.push_back(value(channel));
  }
  void add_normal(int vectors, unsigned seed, float size, int power = 1) {
    for (const float value : normal_numbers(static_cast<std::size_t>(vectors) * dim_, seed))
      values_.push_back(size * std::pow(value, static_cast<float>(power)));
  }
  /// Coordinates on the thresholds, but for the rounding of f32 and what makes the norm right.
  void add_thresholds(int vectors, std::uint64_t seed, int bits) {
    const auto threshold = codec::thresholds(bits);
    for (int vector = 0; vector < vectors; ++vector) {
      std::vector<double> z(dim_);
      double squares = 0;
      for (std::size_t i = 0; i + 16 < dim_; ++i) {
        const std::uint64_t any = splitmix64(seed, static_cast<std::uint64_t>(vector) * dim_ + i);
        z[i] = static_cast<double>(threshold[threshold.size() / 4 + any % (threshold.size() - threshold.size() / 2)]);
        squares += z[i] * z[i];
      }
      const double rest = std::sqrt(std::max(static_cast<double>(dim_) - squares, 0.0) / 16.0);
      std::fill(z.end() - 16, z.end(), rest);
      const double size = 0.1 + 3.0 * static_cast<double>(vector) / vectors;
      add([&](std::size_t channel) { return static_cast<float>(size * z[channel]); });
    }
  }

 private:
  std::size_t dim_;
  std::vector<float> values_;
};

/// Many kinds, none below `smallest` but zeros.
inline Vectors all_kinds(int dim, int bits, float smallest) {
  Vectors all(dim);
  all.add_normal(300, 1, 1.0f);
  all.add_normal(100, 2, 1.0f, 3);  // a few large channels
  all.add_normal(30, 3, 1e-6f);     // f16 scalars below the normal ones
  all.add_normal(30, 4, 2500.0f);   // near the largest f16
  all.add_normal(30, 5, 5000.0f);   // beyond it
  for (const float size : {1e-42f, 1e-38f, 1e-30f, 1e-22f, 1e-19f, 1e15f, 1e18f, 1e25f, 1e36f})
    if (size >= smallest) all.add_normal(5, 6, size);
  for (const float size : {0.0f, 1.0f, -1.0f, 0.3f, 1e-38f, 4000.0f, 1e-45f, 3e38f}) {
    if (size != 0.0f && std::abs(size) < smallest) continue;
    all.add([&](std::size_t) { return size; });
    all.add([&](std::size_t channel) { return channel == 5 ? size : 0.0f; });
    all.add([&](std::size_t channel) { return channel % 2 == 0 ? size : -size; });
  }
  all.add_thresholds(200, 7, bits);
  return all;
}

/// Fails where anything is no tie, and prints what was found.
inline void report(const std::string& what, const Ties& ties) {
  for (std::size_t i = 0; i < std::min<std::size_t>(ties.others.size(), 5); ++i) MESSAGE(ties.others[i]);
  CHECK_MESSAGE(ties.others.empty(), what);
  MESSAGE(what << ": " << ties.bytes << " bytes of " << ties.vectors << " vectors differ by " << ties.codes
               << " codes and " << ties.scalars << " scalars that tie, within " << ties.of_codes << " and "
               << ties.of_scalars << " times 2^-24");
}

}  // namespace tqkv::test
