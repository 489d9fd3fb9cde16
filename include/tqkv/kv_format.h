// KvFormat: the identity of a cache, a value with one canonical string. KvFormat is implemented in src/cache,
// SideFormat in src/codec; docs/formats.md describes every string, and the layout of one vector to the byte.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv {

enum class Backend {
  baseline,
  mlx_quant,
  turboquant,
  rotated_quant,
  trellis,
  turboquant_prod,
  qjl,
  polarquant,
  sketch
};
/// All of them, in the order in which messages name them.
std::span<const Backend> all_backends();
std::string_view name(Backend backend);

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

struct KvFormat {
  Backend backend = Backend::turboquant;
  Backend values = Backend::turboquant;  // of v, where it has a codec of its own; else that of k
  SideFormat k, v;
  std::uint64_t seed = 0;  // of the rotation's signs and of S
  int window = 0;          // newest tokens that every query sees in bf16
  int sink = 0;            // first tokens in bf16
  int mean = 0;            // keys from this token on are stored minus the mean of those before; sink >= mean
  int boundary = 0;        // first and last attention layers that are stored as `edge`
  SideFormat edge;         // of both sides of these layers: bf16, or affine of 8 bits
  /// Attention layers with sides of their own, in ascending order; the others have k and v.
  struct LayerSides {
    int layer = 0;  // index in the model
    SideFormat k, v;
    bool operator==(const LayerSides&) const = default;
  };
  std::vector<LayerSides> layers;

  /// The format of a backend's name alone.
  static KvFormat of(Backend backend);
  /// What runs when no format is named: "default", which parse() takes too, with keys of its own (docs/formats.md).
  static KvFormat usual();
  /// Parses "name[:key=value…]", keys in any order. Throws Error(format) that names the keys and values there are.
  static KvFormat parse(std::string_view text);
  /// The one string of this format, with every key of its backend:
  /// "turboquant:k=4:v=3:scalar=corrected:seed=0:table=1". parse(canonical()) == *this.
  std::string canonical() const;
  /// Keys and values of layer `layer` of the model, which is attention layer `index` of `count`; all from 0.
  struct Sides {
    SideFormat k, v;
  };
  Sides sides(int layer, int index, int count) const;
  /// This format as an engine of `f32` precision keeps it: plain bf16 sides become f32.
  KvFormat in_f32() const;
  bool operator==(const KvFormat&) const = default;
};

/// The scalar of a turboquant side when none is named.
inline constexpr KvScalar default_scalar = KvScalar::corrected;
/// Version of the Lloyd-Max tables and of the trellis levels (docs/formats.md): part of a format's identity.
inline constexpr int codebook_version = 1;
inline constexpr int trellis_version = 1;

/// Parses formats separated by commas (one that a digit follows is part of a list of layers), with `keys` ("bits", "k",
/// "v", "group", "scalar", "seed", "window" … -> value) set in every one of them. Throws Error(usage) for an empty
/// list, an entry that lacks one of the keys (baseline has none) or that itself gives a key another value;
/// Error(format) as KvFormat::parse does.
std::vector<KvFormat> parse_formats(std::string_view list, const std::map<std::string, std::string>& keys = {});

}  // namespace tqkv
