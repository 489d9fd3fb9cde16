#include "training.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <random>
#include <span>
#include <thread>

#include "codec/codebook.h"
#include "codec/trellis/viterbi.h"

namespace tqkv::tools {
namespace {

constexpr int block_vectors = 100;  // with a seed of their own

void fill_vector(std::mt19937_64& random, std::span<float> z) {
  const auto uniform = [&random] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  std::vector<double> normal(z.size());
  double squares = 0;
  for (std::size_t i = 0; i + 1 < z.size(); i += 2) {
    const double radius = std::sqrt(-2.0 * std::log(uniform())), angle = 2.0 * std::numbers::pi * uniform();
    normal[i] = radius * std::cos(angle);
    normal[i + 1] = radius * std::sin(angle);
    squares += radius * radius;
  }
  const double factor = std::sqrt(static_cast<double>(z.size()) / squares);
  for (std::size_t i = 0; i < z.size(); ++i) z[i] = static_cast<float>(normal[i] * factor);
}

struct Sums {
  double error = 0;
  std::vector<double> count, value, square;
};

Sums encode_block(const codec::TrellisTable& table, std::uint64_t seed, int block, int count) {
  const auto levels = static_cast<std::size_t>(table.levels);
  Sums sums{0, std::vector<double>(levels), std::vector<double>(levels), std::vector<double>(levels)};
  std::seed_seq seeds{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                      static_cast<std::uint32_t>(block)};
  std::mt19937_64 random(seeds);
  std::vector<float> z(training_dim);
  std::vector<std::uint8_t> window(training_dim), choice(training_dim);
  for (int i = 0; i < count; ++i) {
    fill_vector(random, z);
    codec::viterbi(table, z, window, choice);
    for (std::size_t c = 0; c < z.size(); ++c) {
      const auto at = static_cast<std::size_t>(window[c] * table.choices + choice[c]);
      const auto value = static_cast<double>(z[c]), difference = value - static_cast<double>(table.level[at]);
      sums.error += difference * difference;
      sums.count[at] += 1;
      sums.value[at] += value;
      sums.square[at] += value * value;
    }
  }
  return sums;
}

/// Lloyd's iteration for N(0,1), from evenly spaced points.
std::vector<double> lloyd_max_points(int count) {
  const auto n = static_cast<std::size_t>(count);
  const auto density = [](double t) { return std::exp(-0.5 * t * t) / std::sqrt(2.0 * std::numbers::pi); };
  const auto tail = [](double t) { return 0.5 * std::erfc(t / std::numbers::sqrt2); };
  std::vector<double> points(n);
  for (std::size_t i = 0; i < n; ++i) points[i] = 7.0 * (static_cast<double>(i) + 0.5) / static_cast<double>(n) - 3.5;
  for (double change = 1; change > 1e-10;) {
    change = 0;
    std::vector<double> next(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double low = i ? 0.5 * (points[i - 1] + points[i]) : -HUGE_VAL;
      const double high = i + 1 < n ? 0.5 * (points[i] + points[i + 1]) : HUGE_VAL;
      next[i] = (density(low) - density(high)) / (tail(low) - tail(high));
      change = std::max(change, std::abs(next[i] - points[i]));
    }
    points = next;
  }
  return points;
}

/// Parity check masks of Ungerboeck's codes (1982, table I), bit 0 the newest bit.
struct Masks {
  unsigned h0, h1;
};
Masks masks_of(int states) {
  switch (states) {
    case 2:  // by the same rules: two sets from each state and two into each, no two of them neighbours
      return {01, 02};
    case 4:
      return {05, 02};
    case 8:
      return {013, 04};
    case 16:
      return {023, 04};
    default:
      return {045, 010};
  }
}

}  // namespace

Encoded encode_vectors(const codec::TrellisTable& table, const Vectors& vectors) {
  const int blocks = (vectors.count + block_vectors - 1) / block_vectors;
  std::vector<Sums> sums(static_cast<std::size_t>(blocks));
  std::atomic<int> next{0};
  const auto work = [&] {
    for (int b = next++; b < blocks; b = next++)
      sums[static_cast<std::size_t>(b)] =
          encode_block(table, vectors.seed, b, std::min(block_vectors, vectors.count - b * block_vectors));
  };
  std::vector<std::thread> others;
  for (int i = 1; i < vectors.threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();

  const auto levels = static_cast<std::size_t>(table.levels);
  Encoded out{0, std::vector<double>(levels), std::vector<double>(levels), std::vector<double>(levels)};
  std::vector<double> squares(levels);
  for (const Sums& block : sums) {  // in the order of the blocks
    out.distortion += block.error;
    for (std::size_t i = 0; i < levels; ++i) {
      out.count[i] += block.count[i];
      out.mean[i] += block.value[i];
      squares[i] += block.square[i];
    }
  }
  out.distortion /= static_cast<double>(vectors.count) * training_dim;
  for (std::size_t i = 0; i < levels; ++i) {
    if (out.count[i] == 0.0) {
      out.mean[i] = static_cast<double>(table.level[i]);
      continue;
    }
    out.mean[i] /= out.count[i];
    out.spread[i] = std::sqrt(std::max(0.0, squares[i] / out.count[i] - out.mean[i] * out.mean[i]));
  }
  return out;
}

std::vector<float> first_levels(int bits, int states) {
  const std::vector<double> points = lloyd_max_points(2 << bits);
  const Masks masks = masks_of(states);
  std::vector<float> levels;
  for (unsigned w = 0; w < 2 * static_cast<unsigned>(states); ++w) {
    const auto set = static_cast<std::size_t>(2 * (std::popcount(w & masks.h0) % 2) + std::popcount(w & masks.h1) % 2);
    for (std::size_t i = set; i < points.size(); i += 4) levels.push_back(static_cast<float>(points[i]));
  }
  return levels;
}

double train_round(int bits, int states, const Vectors& vectors, double relaxation, std::vector<float>& levels) {
  const Encoded encoded = encode_vectors(codec::trellis_table_of(bits, states, levels), vectors);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const auto level = static_cast<double>(levels[i]);
    levels[i] = static_cast<float>(level + relaxation * (encoded.mean[i] - level));
  }
  const auto choices = static_cast<std::ptrdiff_t>(1) << (bits - 1);
  for (auto window = levels.begin(); window != levels.end(); window += choices) std::sort(window, window + choices);
  return encoded.distortion;
}

Rounded round_levels(const std::vector<float>& levels, const std::vector<double>& count) {
  double largest = 0;
  for (const float level : levels) largest = std::max(largest, static_cast<double>(std::abs(level)));
  const auto code_of = [](float level, double step) {
    return std::clamp(std::rint(static_cast<double>(level) / step), -127.0, 127.0);
  };
  double best_step = largest / 127, best_error = HUGE_VAL;
  for (int i = 0; i <= 1000; ++i) {  // the largest may lie up to 12% beyond the last code: it is rare
    const double step = largest / 127 * (1.0 - 0.00012 * i);
    double error = 0;
    for (std::size_t at = 0; at < levels.size(); ++at) {
      const double difference = code_of(levels[at], step) * step - static_cast<double>(levels[at]);
      error += count[at] * difference * difference;
    }
    if (error < best_error) {
      best_error = error;
      best_step = step;
    }
  }
  Rounded out{static_cast<float>(best_step), {}};
  for (const float level : levels) out.codes.push_back(static_cast<std::int8_t>(code_of(level, best_step)));
  return out;
}

}  // namespace tqkv::tools
