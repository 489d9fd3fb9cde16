#include "ties.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/float16.h"
#include "codec/codebook.h"
#include "codec/method.h"
#include "codec/packing.h"

namespace tqkv::test {
namespace {

using Kind = SideFormat::Kind;
constexpr double largest_half = 65504.0;

// The scalar of these indices, in double.
double exact_scalar(const SideFormat& format, std::span<const double> z, double norm,
                    std::span<const std::uint8_t> index) {
  if (norm == 0.0) return 0.0;
  double products = 0, squares = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const auto centroid = static_cast<double>(codec::centroids(format.bits)[index[i]]);
    products += z[i] * centroid;
    squares += centroid * centroid;
  }
  const auto dim = static_cast<double>(z.size());
  return std::min(codec::stored_scalar(format.scalar, norm, products / dim, squares / dim), largest_half);
}

void check_scalar(double exact, std::uint16_t stored, int dim, Ties& ties) {
  const std::uint16_t right = f32_to_f16(static_cast<float>(exact));
  if (stored == right) return;
  const double middle = 0.5 * (static_cast<double>(f16_to_f32(stored)) + static_cast<double>(f16_to_f32(right)));
  const double apart = std::abs(exact - middle) / middle / rounding;
  if (std::abs(stored - right) != 1 || !(apart <= largest_tie_of_scalars(dim))) {
    ties.others.push_back(fmt::format("a scalar of {:.9g} is stored as {:.9g}", exact, f16_to_f32(stored)));
    return;
  }
  ++ties.scalars;
  ties.of_scalars = std::max(ties.of_scalars, apart);
}

// A group as docs/formats.md has it, before scale and bias are rounded to bf16.
struct Group {
  float scale = 0, bias = 0;
  Edge edge;
};

Group group_of(int bits, std::span<const float> x) {
  const auto bins = static_cast<float>((1 << bits) - 1);
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const bool low_edge = std::abs(*low) > std::abs(*high);
  const float step = std::max((*high - *low) / bins, 1e-7f), scale = low_edge ? step : -step;
  const float edge = low_edge ? *low : *high, edge_code = std::rint(edge / scale);
  const Edge own{low_edge, static_cast<double>(edge) / static_cast<double>(scale), static_cast<double>(step),
                 static_cast<double>(*high) + static_cast<double>(*low)};
  return edge_code == 0.0f ? Group{scale, 0.0f, own} : Group{edge / edge_code, edge, own};
}

// Every group, with its values.
template <class Take>
void for_groups(const SideFormat& format, std::span<const float> x, const Take& take) {
  std::vector<float> values(x.begin(), x.end());
  if (format.kind == Kind::affine)
    for (float& value : values) value = bf16_to_f32(f32_to_bf16(value));
  const auto size = static_cast<std::size_t>(format.group);
  for (std::size_t first = 0; first < values.size(); first += size) {
    const std::span<const float> own = std::span(values).subspan(first, size);
    take(group_of(format.bits, own), own);
  }
}

}  // namespace

double largest_tie_of_codes(int dim) {
  return 0.5 * std::sqrt(static_cast<double>(dim)) + 4.0;
}

double largest_tie_of_scalars(int dim) {
  return 2.5 * std::sqrt(static_cast<double>(dim)) + 4.0;
}

std::vector<std::uint8_t> indices(const SideFormat& format, int dim, const std::byte* codes) {
  std::vector<std::uint8_t> index(static_cast<std::size_t>(dim));
  if (format.kind == Kind::turboquant)
    codec::unpack(format.bits, codes, index);
  else
    codec::unpack_stream(format.bits, codes, index);
  return index;
}

std::vector<double> coordinates(const SideFormat& format, std::span<const float> x) {
  if (format.kind != Kind::turboquant) {
    std::vector<double> all;
    for_groups(format, x, [&](const Group& group, std::span<const float> values) {
      for (const float value : values)
        all.push_back((static_cast<double>(value) - static_cast<double>(group.bias)) /
                      static_cast<double>(group.scale));
    });
    return all;
  }
  const double norm = codec::norm_of(x);
  const double factor = norm > 0.0 ? std::sqrt(static_cast<double>(x.size())) / norm : 0.0;
  std::vector<double> z;
  for (const float value : x) z.push_back(static_cast<double>(value) * factor);
  return z;
}

double boundary(const SideFormat& format, int index) {
  return format.kind == Kind::turboquant
             ? static_cast<double>(codec::thresholds(format.bits)[static_cast<std::size_t>(index)])
             : index + 0.5;
}

// A coordinate is y sqrt(d) / |y|, or (x - bias) / scale with bias = edge and scale = edge / its code, |x - bias| up to
// all bins.
double sensitivity(const SideFormat& format, std::span<const float> x) {
  if (format.kind == Kind::turboquant) return 2.0 * std::sqrt(static_cast<double>(x.size())) / codec::norm_of(x);
  double most = 0;
  for_groups(format, x, [&](const Group& group, std::span<const float>) {
    const double code = std::max(std::abs(std::rint(group.edge.code)), 1.0);
    most = std::max(most, (2.0 + (1 << format.bits) / code) / std::abs(static_cast<double>(group.scale)));
  });
  return most;
}

bool Edge::like(const Edge& other) const {
  return low == other.low && std::rint(code) == std::rint(other.code);
}

// Its code is edge / step with step = (largest - smallest) / bins, so that it moves by 3 moved / step at most. Two that
// round to different integers have a boundary between them.
bool Edge::near(const Edge& other, double moved) const {
  if (low != other.low) return std::abs(uneven) + std::abs(other.uneven) <= 2.0 * moved;
  return std::abs(code - other.code) <= 3.01 * moved / step;
}

std::vector<Edge> edges(const SideFormat& format, std::span<const float> x) {
  std::vector<Edge> all;
  if (format.kind == Kind::turboquant) return all;
  for_groups(format, x, [&](const Group& group, std::span<const float>) { all.push_back(group.edge); });
  return all;
}

void compare(const SideFormat& format, std::span<const float> x, const std::byte* expected, const std::byte* found,
             Ties& ties) {
  const int dim = static_cast<int>(x.size());
  const codec::SideCodec codec = codec::side_codec(format, dim);
  ++ties.vectors;
  for (std::size_t i = 0; i < codec.vector_bytes(); ++i) ties.bytes += expected[i] != found[i] ? 1 : 0;
  if (std::memcmp(expected, found, codec.vector_bytes()) == 0) return;
  if (format.kind != Kind::turboquant) {
    ties.others.push_back("bytes of " + format.describe());
    return;
  }
  const std::vector<double> z = coordinates(format, x);
  const double norm = codec::norm_of(x);
  const std::vector<std::uint8_t> right = indices(format, dim, expected), other = indices(format, dim, found);
  for (std::size_t i = 0; i < z.size(); ++i) {
    if (right[i] == other[i]) continue;
    const double threshold = boundary(format, std::min(right[i], other[i]));
    const double apart = std::abs(z[i] - threshold) / std::abs(threshold) / rounding;
    if (std::abs(right[i] - other[i]) != 1 || !(apart <= largest_tie_of_codes(dim))) {
      ties.others.push_back(fmt::format("{}: {:.9g} of a vector of norm {:.9g} has the indices {} and {}",
                                        format.describe(), z[i], norm, right[i], other[i]));
      continue;
    }
    ++ties.codes;
    ties.of_codes = std::max(ties.of_codes, apart);
  }
  check_scalar(exact_scalar(format, z, norm, right), load<std::uint16_t>(expected + codec.code_bytes), dim, ties);
  check_scalar(exact_scalar(format, z, norm, other), load<std::uint16_t>(found + codec.code_bytes), dim, ties);
}

}  // namespace tqkv::test
