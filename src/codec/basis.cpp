#include "codec/basis.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <numeric>

#include "codec/rotation.h"
#include "codec/side_codec.h"

namespace tqkv::codec {
namespace {

void multiply(std::span<float> x, std::span<const float> signs) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= signs[i];
}

}  // namespace

Basis Basis::of(const SideFormat& format, std::uint64_t seed, int layer, int head, int dim) {
  assert(format.kind != SideFormat::Kind::split);
  return format.rotated() ? rotation(seed, layer, head, dim) : Basis();
}

Basis Basis::rotation(std::uint64_t seed, int layer, int head, int dim) {
  Basis basis;
  basis.kind_ = Kind::rotation;
  basis.signs_ = rotation_signs(seed, layer, head, dim);
  return basis;
}

Basis Basis::split(std::span<const int> strong, std::uint64_t seed, int layer, int head, int dim) {
  assert(strong.size() == static_cast<std::size_t>(dim / 4));
  Basis basis;
  basis.kind_ = Kind::split;
  basis.order_.assign(strong.begin(), strong.end());
  for (int channel = 0; channel < dim; ++channel) {
    if (!std::binary_search(strong.begin(), strong.end(), channel)) basis.order_.push_back(channel);
  }
  for (int i = 0; i < dim / 4; ++i) basis.signs_.push_back(rotation_sign(seed, layer, head, split_channel(i)));
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < dim - dim / 4; ++i)
      basis.signs_.push_back(rotation_sign(seed, layer, head, split_channel(round, i)));
  }
  return basis;
}

void Basis::apply(std::span<float> x) const {
  if (kind_ == Kind::identity) return;
  if (kind_ == Kind::rotation) return rotate(x, signs_);
  const std::size_t quarter = x.size() / 4, rest = x.size() - quarter;
  std::array<float, max_dim> y;
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[static_cast<std::size_t>(order_[i])];
  std::copy_n(y.begin(), x.size(), x.begin());
  const std::span<const float> signs(signs_);
  rotate(x.first(quarter), signs.first(quarter));
  for (std::size_t round = 0; round < 2; ++round) {
    multiply(x.subspan(quarter), signs.subspan(quarter + round * rest, rest));
    hadamard12(x.subspan(quarter));
  }
}

void Basis::revert(std::span<float> y) const {
  if (kind_ == Kind::identity) return;
  if (kind_ == Kind::rotation) return unrotate(y, signs_);
  const std::size_t quarter = y.size() / 4, rest = y.size() - quarter;
  const std::span<const float> signs(signs_);
  for (std::size_t round = 2; round-- > 0;) {
    hadamard12_transposed(y.subspan(quarter));
    multiply(y.subspan(quarter), signs.subspan(quarter + round * rest, rest));
  }
  unrotate(y.first(quarter), signs.first(quarter));
  std::array<float, max_dim> x;
  for (std::size_t i = 0; i < y.size(); ++i) x[static_cast<std::size_t>(order_[i])] = y[i];
  std::copy_n(x.begin(), y.size(), y.begin());
}

std::vector<int> strongest_channels(std::span<const double> squares) {
  std::vector<int> order(squares.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return squares[static_cast<std::size_t>(a)] > squares[static_cast<std::size_t>(b)];
  });
  order.resize(squares.size() / 4);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace tqkv::codec
