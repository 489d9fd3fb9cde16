// Where two encoders store other bytes for one vector: whether the exact numbers lie on a boundary, up to rounding.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tqkv/side_format.h"

namespace tqkv::test {

/// Half a step of f32 at 1: the relative error of one operation.
inline constexpr double rounding = 0x1p-24;

/// What was compared, what differs, and how far from a boundary that was.
struct Ties {
  long vectors = 0, bytes = 0;
  long codes = 0;         ///< that differ, where the exact coordinate is on a threshold
  long scalars = 0;       ///< that differ from the exact one in f16, which is between two
  double of_codes = 0;    ///< the largest distance from the threshold, over the threshold, in units of `rounding`
  double of_scalars = 0;  ///< the largest distance from the middle of two f16, over it, in the same units
  std::vector<std::string> others;  ///< what differs and is no tie
};

/// Distances up to here are ties, in units of `rounding`. The errors of a sum of d numbers of one sign add up to d
/// units at most and, as they have no sign in common, to about sqrt(d). z = y sqrt(d) / |y| has half of that from the
/// root of such a sum, and four operations more. A scalar has up to two sums more, of d numbers each.
double largest_tie_of_codes(int dim);
double largest_tie_of_scalars(int dim);

/// x [dim], in the basis of the side, as two encoders store it. Plain and affine vectors have no ties: their encoders
/// take the same steps.
void compare(const SideFormat& format, std::span<const float> x, const std::byte* expected, const std::byte* found,
             Ties& ties);

/// Indices of a stored vector [dim].
std::vector<std::uint8_t> indices(const SideFormat& format, int dim, const std::byte* codes);
/// The numbers that are rounded to the indices, in double [dim], and the boundary between `index` and the next one.
std::vector<double> coordinates(const SideFormat& format, std::span<const float> x);
double boundary(const SideFormat& format, int index);
/// How far a coordinate can move where x moves by 1, to first order and with the same edges.
double sensitivity(const SideFormat& format, std::span<const float> x);

/// What scale and bias of an affine group are made of. It decides over all codes of the group.
struct Edge {
  bool low = false;   ///< the smallest value is the one that is stored exactly, as it is further from 0
  double code = 0;    ///< of that value, before it is rounded
  double step = 0;    ///< between codes, up to then
  double uneven = 0;  ///< how much further from 0 the largest value is
  /// The same scale and bias, but for a factor near 1.
  bool like(const Edge& other) const;
  /// Whether the two would be alike if no value had moved by more than `moved`.
  bool near(const Edge& other, double moved) const;
};
/// Of every group; none where the format has no groups.
std::vector<Edge> edges(const SideFormat& format, std::span<const float> x);

}  // namespace tqkv::test
