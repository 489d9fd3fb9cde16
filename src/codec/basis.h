// Basis: the orthogonal map from a head's channels to those in which a side of its cache is stored, and back. Scalar
// reference; the map of the Walsh-Hadamard transform has kernels of its own on every device.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "tqkv/side_format.h"

namespace tqkv::codec {

class Basis {
 public:
  enum class Kind {
    identity,
    rotation,  ///< H D (rotation.h)
    split  ///< strong channels to the front, then signs and H for them, two rounds of signs and H12 ⊗ H for the rest
  };
  Basis() = default;
  /// Of the sides of one KV head; a split side has none before its channels are chosen: split_basis().
  static Basis of(const SideFormat& format, std::uint64_t seed, int layer, int head, int dim);
  static Basis rotation(std::uint64_t seed, int layer, int head, int dim);
  /// `strong` [dim / 4] in ascending order: the channels with more bits.
  static Basis split(std::span<const int> strong, std::uint64_t seed, int layer, int head, int dim);

  Kind kind() const { return kind_; }
  /// Of a rotation: [dim].
  std::span<const float> signs() const { return signs_; }
  /// Of a split: channel at each place [dim].
  std::span<const int> order() const { return order_; }
  void apply(std::span<float> x) const;   // to the basis of the side
  void revert(std::span<float> y) const;  // and back

 private:
  Kind kind_ = Kind::identity;
  std::vector<float> signs_;  // split: of the strong part [dim / 4], then of each round [2, 3 dim / 4]
  std::vector<int> order_;
};

/// The dim / 4 channels with the largest sums of squares [dim], the lower one among equals; in ascending order.
std::vector<int> strongest_channels(std::span<const double> squares);

}  // namespace tqkv::codec
