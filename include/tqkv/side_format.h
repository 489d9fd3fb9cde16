// SideFormat: how keys or values of a layer are stored. Implemented in src/codec; docs/formats.md describes the layout
// of one vector to the byte.
#pragma once
#include <string>
#include <string_view>

namespace tqkv {

/// The number stored with the indices of a turboquant or trellis vector x = n u, ũ the decoded unit vector.
enum class KvScalar {
  norm,       ///< n
  corrected,  ///< n / ‖ũ‖: the decoded vector has the norm of x
  unbiased,   ///< n / ⟨u,ũ⟩: scores are unbiased
  best        ///< n ⟨u,ũ⟩ / ‖ũ‖²: least squared error
};
std::string_view name(KvScalar scalar);

/// Rows of the matrix S whose signs turboquant_prod, qjl and sketch keep.
enum class Projection {
  gaussian,   ///< iid N(0,1)
  orthogonal  ///< blocks of signs and a Walsh-Hadamard transform, rows of norm 1
};
std::string_view name(Projection projection);

/// How one side (keys or values) of a layer is stored.
struct SideFormat {
  enum class Kind {
    plain,           ///< bits 16: bf16; bits 32: f32
    affine,          ///< MLX affine quantization of x: 2, 3, 4, 5, 6 or 8 bits, bf16 scale and bias for each `group`
    rotated_affine,  ///< the same of y = H D x
    turboquant,      ///< y = H D x / ‖x‖, index of the nearest centroid in 2 to 5 bits, one f16 scalar
    split,           ///< a quarter of the channels with bits + 1, the others with bits; each part as turboquant
    trellis,         ///< turboquant with trellis-coded indices of 2 to 5 bits
    prod,            ///< turboquant of bits - 1, and the signs of S times the residual, with its norm
    signs,           ///< the signs of S y, and the norm
    polar,           ///< recursive polar coordinates of blocks of 16: angles of 4, 2, 2 and 2 bits, f16 radius
    sketch           ///< rotated affine, and the signs of S times the residual, with its norm
  };
  Kind kind = Kind::plain;
  int bits = 16;
  int group = 0;                                   // affine kinds and sketch
  KvScalar scalar = KvScalar::norm;                // turboquant, split, trellis
  int states = 0;                                  // trellis
  int rows = 0;                                    // signs: rows of S; prod and sketch have one a channel
  Projection projection = Projection::orthogonal;  // prod, signs

  bool rotated() const { return kind != Kind::plain && kind != Kind::affine; }
  bool operator==(const SideFormat&) const = default;
  std::string describe() const;  // "turboquant 4 bit, scalar best", "affine 4 bit, group 64", "bf16"
};

/// The scalar of a turboquant side when none is named.
inline constexpr KvScalar default_scalar = KvScalar::corrected;
/// Version of the Lloyd-Max tables and of the trellis levels (docs/formats.md): part of a format's identity.
inline constexpr int codebook_version = 1;
inline constexpr int trellis_version = 1;

}  // namespace tqkv
