#include "codec/sign_matrix.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "base/float16.h"
#include "codec/rotation.h"

namespace tqkv::codec {
namespace {

std::size_t size(int n) {
  return static_cast<std::size_t>(n);
}

}  // namespace

double normal_quantile(double p) {
  assert(p > 0.0 && p < 1.0);
  const double q = p - 0.5;
  if (std::abs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * (((5.9109374720e1 * r + 1.5929113202e2) * r + 5.0434271938e1) * r + 3.3871327179) /
           (((6.7187563600e1 * r + 7.8757757664e1) * r + 1.7895169469e1) * r + 1.0);
  }
  double r = std::sqrt(-std::log(q < 0.0 ? p : 1.0 - p));
  double z = 0.0;
  if (r <= 5.0) {
    r -= 1.6;
    z = (((1.7023821103e-1 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777) /
        ((1.2021132975e-1 * r + 7.3700164250e-1) * r + 1.0);
  } else {
    r -= 5.0;
    z = (((1.7337203997e-2 * r + 4.2868294337e-1) * r + 3.0812263860) * r + 6.6579051150) /
        ((1.2258202635e-2 * r + 2.4197894225e-1) * r + 1.0);
  }
  return q < 0.0 ? -z : z;
}

float gaussian_entry(std::uint64_t seed, int row, int column) {
  const std::uint64_t hash = matrix_hash(seed, row, column);
  const double p = (static_cast<double>(hash >> 12) + 0.5) * 0x1p-52;
  return bf16_to_f32(f32_to_bf16(static_cast<float>(normal_quantile(p))));
}

SignMatrix::SignMatrix(Projection projection, int rows, int dim, std::uint64_t seed)
    : projection_(projection), rows_(rows), dim_(dim) {
  assert(rows > 0 && dim > 0 && rows <= 1024 && dim <= 1024);
  const double scale = std::sqrt(std::numbers::pi / 2.0) / rows;
  if (projection == Projection::gaussian) {
    factor_ = static_cast<float>(scale);
    values_.resize(size(rows) * size(dim));
    transposed_.resize(values_.size());
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < dim; ++column) {
        const float entry = gaussian_entry(seed, row, column);
        values_[size(row) * size(dim) + size(column)] = entry;
        transposed_[size(column) * size(rows) + size(row)] = entry;
      }
    }
    return;
  }
  assert(can_rotate(dim));
  factor_ = static_cast<float>(scale * std::sqrt(static_cast<double>(dim)));
  const int blocks = (rows + dim - 1) / dim;
  for (int block = 0; block < blocks; ++block) {
    for (int channel = 0; channel < dim; ++channel)
      values_.push_back(rotation_sign(seed, 0, 0, block_channel(block, channel)));
  }
}

void SignMatrix::multiply(std::span<const float> x, std::span<float> out) const {
  assert(x.size() == size(dim_) && out.size() == size(rows_));
  if (projection_ == Projection::gaussian) {
    std::fill(out.begin(), out.end(), 0.0f);
    for (std::size_t column = 0; column < x.size(); ++column) {
      const float* entries = transposed_.data() + column * out.size();
      const float factor = x[column];
      for (std::size_t row = 0; row < out.size(); ++row) out[row] += factor * entries[row];
    }
    return;
  }
  std::vector<float> block(x.size());
  for (std::size_t first = 0; first < out.size(); first += x.size()) {
    for (std::size_t i = 0; i < x.size(); ++i) block[i] = x[i] * values_[first + i];
    hadamard(block);
    std::copy_n(block.begin(), std::min(block.size(), out.size() - first),
                out.begin() + static_cast<std::ptrdiff_t>(first));
  }
}

void SignMatrix::add_transposed(std::span<const float> z, std::span<float> out) const {
  assert(out.size() == size(dim_) && z.size() == size(rows_));
  if (projection_ == Projection::gaussian) {
    for (std::size_t row = 0; row < z.size(); ++row) {
      const float* entries = values_.data() + row * out.size();
      const float factor = z[row];
      for (std::size_t column = 0; column < out.size(); ++column) out[column] += factor * entries[column];
    }
    return;
  }
  std::vector<float> block(out.size());
  for (std::size_t first = 0; first < z.size(); first += out.size()) {
    const std::size_t count = std::min(block.size(), z.size() - first);
    std::fill(block.begin(), block.end(), 0.0f);
    std::copy_n(z.begin() + static_cast<std::ptrdiff_t>(first), count, block.begin());
    hadamard(block);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += block[i] * values_[first + i];
  }
}

}  // namespace tqkv::codec
