// KvFormat: the identity of a cache, a value with one canonical string. Implemented in src/cache; docs/formats.md
// describes every string.
#pragma once
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tqkv/side_format.h"

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

/// Parses formats separated by commas (one that a digit follows is part of a list of layers), with `keys` ("bits", "k",
/// "v", "group", "scalar", "seed", "window" … -> value) set in every one of them. Throws Error(usage) for an empty
/// list, an entry that lacks one of the keys (baseline has none) or that itself gives a key another value;
/// Error(format) as KvFormat::parse does.
std::vector<KvFormat> parse_formats(std::string_view list, const std::map<std::string, std::string>& keys = {});

}  // namespace tqkv
