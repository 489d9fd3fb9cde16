#include "cache/backends.h"

#include <algorithm>
#include <utility>

#include "codec/trellis/levels.h"
#include "tqkv/error.h"

namespace tqkv::cache {
namespace {

using Kind = SideFormat::Kind;

SideFormat side(Kind kind, const Settings::Side& from) {
  SideFormat format;
  format.kind = kind;
  format.bits = from.bits;
  return format;
}

SideFormat affine_side(Kind kind, const Settings::Side& from) {
  SideFormat format = side(kind, from);
  format.group = from.group;
  return format;
}

SideFormat turboquant_side(const Settings& settings, const Settings::Side& from) {
  SideFormat format = side(settings.split ? Kind::split : Kind::turboquant, from);
  format.scalar = from.scalar;
  return format;
}

SideFormat trellis_side(const Settings::Side& from) {
  SideFormat format = side(Kind::trellis, from);
  format.scalar = from.scalar;
  format.states = from.states != 0 ? from.states : codec::default_states(from.bits);
  return format;
}

SideFormat prod_side(const Settings& settings, const Settings::Side& from) {
  SideFormat format = side(Kind::prod, from);
  format.projection = settings.projection;
  return format;
}

Settings defaults(int k_bits, int v_bits, int k_group = 0, int v_group = 0) {
  Settings settings;
  settings.k.bits = k_bits;
  settings.v.bits = v_bits;
  settings.k.group = k_group;
  settings.v.group = v_group;
  return settings;
}

// Affine codes of x, or of its rotation, on both sides.
template <Kind kind>
void affine_sides(BackendRules& rules) {
  rules.k_bits = rules.v_bits = {2, 3, 4, 5, 6, 8};
  rules.bits = {{"2", 2, 2}, {"3", 3, 3}, {"4", 4, 4}, {"5", 5, 5}, {"6", 6, 6}, {"8", 8, 8}};
  rules.groups = {32, 64, 128};
  rules.combines = true;
  rules.defaults = defaults(4, 4, 64, 64);
  rules.k_side = [](const Settings& s) { return affine_side(kind, s.k); };
  rules.v_side = [](const Settings& s) { return affine_side(kind, s.v); };
}

// Codes of 2 to 5 whole bits per channel on both sides; a half is one bit more for keys.
void coded_sides(BackendRules& rules) {
  rules.k_bits = rules.v_bits = {2, 3, 4, 5};
  rules.bits = {{"2", 2, 2}, {"2.5", 3, 2}, {"3", 3, 3}, {"3.5", 4, 3}, {"4", 4, 4}, {"5", 5, 5}};
  rules.defaults = defaults(4, 4);
}

std::vector<BackendRules> make_rules() {
  std::vector<BackendRules> all;
  const auto add = [&](Backend backend, std::string_view name, std::vector<std::string_view> keys) -> BackendRules& {
    BackendRules& rules = all.emplace_back();
    rules.backend = backend;
    rules.name = name;
    rules.keys = std::move(keys);
    return rules;
  };
  add(Backend::baseline, "baseline", {"bits"}).bits = {{"16", 16, 16}, {"32", 32, 32}};

  affine_sides<Kind::affine>(add(Backend::mlx_quant, "mlx_quant", {"k", "v", "values", "group"}));

  BackendRules& turboquant =
      add(Backend::turboquant, "turboquant", {"k", "v", "values", "split", "scalar", "seed", "table"});
  coded_sides(turboquant);
  turboquant.combines = true;
  turboquant.k_side = [](const Settings& s) { return turboquant_side(s, s.k); };
  turboquant.v_side = [](const Settings& s) { return turboquant_side(s, s.v); };

  affine_sides<Kind::rotated_affine>(
      add(Backend::rotated_quant, "rotated_quant", {"k", "v", "values", "group", "seed"}));

  BackendRules& trellis = add(Backend::trellis, "trellis", {"k", "v", "values", "scalar", "states", "seed", "table"});
  coded_sides(trellis);
  trellis.combines = true;
  trellis.k_side = [](const Settings& s) { return trellis_side(s.k); };
  trellis.v_side = [](const Settings& s) { return trellis_side(s.v); };

  BackendRules& prod = add(Backend::turboquant_prod, "turboquant_prod", {"k", "v", "projection", "seed", "table"});
  coded_sides(prod);
  prod.defaults.projection = Projection::gaussian;  // as in the paper
  prod.k_side = [](const Settings& s) { return prod_side(s, s.k); };
  prod.v_side = [](const Settings& s) { return prod_side(s, s.v); };

  BackendRules& qjl = add(Backend::qjl, "qjl", {"k", "v", "group", "rows", "projection", "seed"});
  affine_sides<Kind::affine>(qjl);
  qjl.bits.clear();
  qjl.combines = false;
  qjl.k_bits = {1};
  qjl.defaults = defaults(1, 4, 32, 32);
  qjl.defaults.rows = 256;
  qjl.k_side = [](const Settings& s) {
    SideFormat format = side(Kind::signs, s.k);
    format.rows = s.rows;
    format.projection = s.projection;
    return format;
  };

  BackendRules& polarquant = add(Backend::polarquant, "polarquant", {"k", "v", "seed"});
  polarquant.k_bits = polarquant.v_bits = {4};
  polarquant.defaults = defaults(4, 4);
  polarquant.k_side = [](const Settings& s) { return side(Kind::polar, s.k); };
  polarquant.v_side = [](const Settings& s) { return side(Kind::polar, s.v); };

  BackendRules& sketch = add(Backend::sketch, "sketch", {"k", "v", "group", "seed"});
  affine_sides<Kind::affine>(sketch);
  sketch.bits.clear();
  sketch.combines = false;
  sketch.defaults = defaults(3, 4, 64, 64);
  sketch.k_side = [](const Settings& s) { return affine_side(Kind::sketch, s.k); };
  return all;
}

}  // namespace

bool BackendRules::has(std::string_view key) const {
  if (key == "bits") return !bits.empty();
  if (std::find(keys.begin(), keys.end(), key) != keys.end()) return true;
  if (key == "mean" || key == "values") return combines;
  return backend != Backend::baseline &&
         std::find(std::begin(option_keys), std::end(option_keys), key) != std::end(option_keys);
}

std::span<const BackendRules> all_rules() {
  static const std::vector<BackendRules> all = make_rules();
  return all;
}

const BackendRules& rules(Backend backend) {
  for (const BackendRules& one : all_rules()) {
    if (one.backend == backend) return one;
  }
  throw Error(ErrorKind::internal, "backend: one that does not exist");
}

int table_version(Backend backend) {
  return backend == Backend::trellis ? trellis_version : codebook_version;
}

}  // namespace tqkv::cache
