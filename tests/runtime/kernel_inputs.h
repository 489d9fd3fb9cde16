// Inputs and comparisons for the kernel tests: seeded normal numbers, every instruction set of this machine.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/cpu/kernels.h"

namespace tqkv::cpu {

class Normal {
 public:
  explicit Normal(unsigned seed) : engine_(seed) {}
  float operator()() { return distribution_(engine_); }
  std::vector<float> operator()(std::size_t n, float scale = 1.0f) {
    std::vector<float> x(n);
    for (float& value : x) value = scale * distribution_(engine_);
    return x;
  }
  float uniform() { return std::uniform_real_distribution<float>()(engine_); }
  int below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(engine_); }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> distribution_;
};

inline std::size_t size(int n) {
  return static_cast<std::size_t>(n);
}

/// The largest |a - b| over the root mean square of b.
inline double distance(const std::vector<float>& a, const std::vector<double>& b) {
  double worst = 0, squares = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    worst = difference <= worst ? worst : difference;  // keeps a NaN
    squares += b[i] * b[i];
  }
  const double root = std::sqrt(squares / static_cast<double>(b.size()));
  return root > 0 ? worst / root : worst;
}

inline std::vector<double> doubles(const std::vector<float>& x) {
  return {x.begin(), x.end()};
}

/// Runs `body` with the kernels of every instruction set there is, best first.
template <class Body>
void for_every_isa(Body body) {
  for (const auto isa : available_isas()) {
    const std::string name(isa);
    CAPTURE(name);
    body(kernels(isa));
  }
}

}  // namespace tqkv::cpu
