// SignMatrix: S, the matrix [rows, dim] whose product with a vector is kept as signs (QJL, arXiv 2406.03482; the second
// stage of TurboQuant_prod, arXiv 2504.19874 algorithm 2). With z = sign(S r), ⟨q, r⟩ is estimated without bias by
// ‖r‖ factor ⟨S q, z⟩. docs/formats.md says how every entry follows from the seed.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "tqkv/side_format.h"

namespace tqkv::codec {

class SignMatrix {
 public:
  /// Orthogonal: blocks of dim rows, each a sequence of signs and a Walsh-Hadamard transform; dim is a power of two.
  SignMatrix(Projection projection, int rows, int dim, std::uint64_t seed);

  int rows() const { return rows_; }
  int dim() const { return dim_; }
  Projection projection() const { return projection_; }
  /// sqrt(pi/2) / rows for Gaussian rows, sqrt(pi/2) sqrt(dim) / rows for orthogonal ones.
  float factor() const { return factor_; }
  /// out [rows] = S x [dim]
  void multiply(std::span<const float> x, std::span<float> out) const;
  /// out [dim] += transposed S z [rows]
  void add_transposed(std::span<const float> z, std::span<float> out) const;
  /// Gaussian: the entries [rows, dim]. Orthogonal: signs of the channels of each block [blocks, dim].
  std::span<const float> values() const { return values_; }

 private:
  Projection projection_;
  int rows_, dim_;
  float factor_;
  std::vector<float> values_;
  std::vector<float> transposed_;  // Gaussian: [dim, rows]
};

/// Entry of a Gaussian S, rounded to bf16.
float gaussian_entry(std::uint64_t seed, int row, int column);
/// Quantile of N(0,1) for 0 < p < 1, to 7 digits (Wichura 1988, algorithm AS 241, PPND7).
double normal_quantile(double p);

}  // namespace tqkv::codec
