// KvFormat: the identity of a cache, a value with one canonical string. KvFormat is implemented in src/cache,
// SideFormat in src/codec; docs/formats.md describes every string, and the layout of one vector to the byte.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv {

enum class Backend { baseline, mlx_quant, turboquant, rotated_quant };
std::string_view name(Backend backend);

/// The number stored beside the indices of a turboquant vector x = n u, ũ the decoded unit vector.
enum class KvScalar {
  norm,       ///< n
  corrected,  ///< n / ‖ũ‖: the decoded vector has the norm of x
  unbiased,   ///< n / ⟨u,ũ⟩: scores are unbiased
  best        ///< n ⟨u,ũ⟩ / ‖ũ‖²: least squared error
};
std::string_view name(KvScalar scalar);

/// How one side (keys or values) of a layer is stored.
struct SideFormat {
  enum class Kind {
    plain,           ///< bits 16: bf16; bits 32: f32
    affine,          ///< MLX affine quantization of x: bits 4 or 8, bf16 scale and bias for each `group` channels
    rotated_affine,  ///< the same of y = H D x
    turboquant       ///< y = H D x / ‖x‖, index of the nearest centroid in 2 to 5 bits, one f16 scalar
  };
  Kind kind = Kind::plain;
  int bits = 16;
  int group = 0;                     // affine kinds
  KvScalar scalar = KvScalar::norm;  // turboquant

  bool rotated() const { return kind == Kind::rotated_affine || kind == Kind::turboquant; }
  bool operator==(const SideFormat&) const = default;
  std::string describe() const;  // "turboquant 4 bit, scalar best", "affine 4 bit, group 64", "bf16"
};

struct KvFormat {
  Backend backend = Backend::turboquant;
  SideFormat k, v;
  std::uint64_t seed = 0;  // of the rotation's signs

  /// The default format of a backend.
  static KvFormat of(Backend backend);
  /// Parses "name[:key=value…]", keys in any order. Throws Error(format) that names the keys and values there are.
  static KvFormat parse(std::string_view text);
  /// The one string of this format, with every key of its backend:
  /// "turboquant:k=4:v=3:scalar=corrected:seed=0:table=1". parse(canonical()) == *this.
  std::string canonical() const;
  /// This format as an engine of `f32` precision holds it: plain bf16 sides become f32.
  KvFormat in_f32() const;
  bool operator==(const KvFormat&) const = default;
};

/// The scalar of a turboquant side when none is named.
inline constexpr KvScalar default_scalar = KvScalar::corrected;
/// Version of the Lloyd-Max tables (docs/formats.md): part of a turboquant format's identity.
inline constexpr int codebook_version = 1;

/// Parses formats separated by commas, with `keys` ("bits", "k", "v", "group", "scalar", "seed" -> value) set in every
/// one of them. Throws Error(usage) for an empty list, an entry that lacks one of the keys (baseline has none) or that
/// itself gives a key another value; Error(format) as KvFormat::parse does.
std::vector<KvFormat> parse_formats(std::string_view list, const std::map<std::string, std::string>& keys = {});

}  // namespace tqkv
