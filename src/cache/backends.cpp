#include "cache/backends.h"

#include <algorithm>

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

std::vector<BackendRules> make_rules() {
  const std::vector<int> affine_bits{2, 3, 4, 5, 6, 8}, groups{32, 64, 128};
  std::vector<BackendRules> all;

  BackendRules baseline{Backend::baseline, "baseline", {"bits"}, {}, {}, {"16", "32"}, {}, {}, nullptr, nullptr};
  all.push_back(baseline);

  BackendRules mlx{Backend::mlx_quant,
                   "mlx_quant",
                   {"k", "v", "group"},
                   affine_bits,
                   affine_bits,
                   {"2", "3", "4", "5", "6", "8"},
                   groups,
                   defaults(4, 4, 64, 64),
                   nullptr,
                   nullptr};
  mlx.k_side = [](const Settings& s) { return affine_side(Kind::affine, s.k); };
  mlx.v_side = [](const Settings& s) { return affine_side(Kind::affine, s.v); };
  all.push_back(mlx);

  BackendRules turboquant{Backend::turboquant,
                          "turboquant",
                          {"k", "v", "split", "scalar", "seed", "table"},
                          {2, 3, 4, 5},
                          {2, 3, 4, 5},
                          {"2", "2.5", "3", "3.5", "4", "5"},
                          {},
                          defaults(4, 4),
                          nullptr,
                          nullptr};
  turboquant.k_side = [](const Settings& s) { return turboquant_side(s, s.k); };
  turboquant.v_side = [](const Settings& s) { return turboquant_side(s, s.v); };
  all.push_back(turboquant);

  BackendRules rotated = mlx;
  rotated.backend = Backend::rotated_quant;
  rotated.name = "rotated_quant";
  rotated.keys = {"k", "v", "group", "seed"};
  rotated.k_side = [](const Settings& s) { return affine_side(Kind::rotated_affine, s.k); };
  rotated.v_side = [](const Settings& s) { return affine_side(Kind::rotated_affine, s.v); };
  all.push_back(rotated);

  BackendRules trellis{Backend::trellis,
                       "trellis",
                       {"k", "v", "scalar", "states", "seed", "table"},
                       {2, 3, 4},
                       {2, 3, 4},
                       {"2", "2.5", "3", "3.5", "4"},
                       {},
                       defaults(4, 4),
                       nullptr,
                       nullptr};
  trellis.k_side = [](const Settings& s) { return trellis_side(s.k); };
  trellis.v_side = [](const Settings& s) { return trellis_side(s.v); };
  all.push_back(trellis);

  BackendRules prod{Backend::turboquant_prod,
                    "turboquant_prod",
                    {"k", "v", "projection", "seed", "table"},
                    {2, 3, 4, 5},
                    {2, 3, 4, 5},
                    {"2", "2.5", "3", "3.5", "4", "5"},
                    {},
                    defaults(4, 4),
                    nullptr,
                    nullptr};
  prod.defaults.projection = Projection::gaussian;  // as in the paper
  prod.k_side = [](const Settings& s) { return prod_side(s, s.k); };
  prod.v_side = [](const Settings& s) { return prod_side(s, s.v); };
  all.push_back(prod);

  BackendRules qjl{Backend::qjl,
                   "qjl",
                   {"k", "v", "group", "rows", "projection", "seed"},
                   {1},
                   affine_bits,
                   {},
                   groups,
                   defaults(1, 4, 32, 32),
                   nullptr,
                   nullptr};
  qjl.defaults.rows = 256;
  qjl.k_side = [](const Settings& s) {
    SideFormat format = side(Kind::signs, s.k);
    format.rows = s.rows;
    format.projection = s.projection;
    return format;
  };
  qjl.v_side = [](const Settings& s) { return affine_side(Kind::affine, s.v); };
  all.push_back(qjl);

  BackendRules polarquant{
      Backend::polarquant, "polarquant", {"k", "v", "seed"}, {4}, {4}, {}, {}, defaults(4, 4), nullptr, nullptr};
  polarquant.k_side = [](const Settings& s) { return side(Kind::polar, s.k); };
  polarquant.v_side = [](const Settings& s) { return side(Kind::polar, s.v); };
  all.push_back(polarquant);

  BackendRules sketch{Backend::sketch,
                      "sketch",
                      {"k", "v", "group", "seed"},
                      affine_bits,
                      affine_bits,
                      {},
                      groups,
                      defaults(3, 4, 64, 64),
                      nullptr,
                      nullptr};
  sketch.k_side = [](const Settings& s) { return affine_side(Kind::sketch, s.k); };
  sketch.v_side = [](const Settings& s) { return affine_side(Kind::affine, s.v); };
  all.push_back(sketch);
  return all;
}

}  // namespace

bool BackendRules::has(std::string_view key) const {
  if (key == "bits") return !bits.empty();
  if (std::find(keys.begin(), keys.end(), key) != keys.end()) return true;
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

}  // namespace tqkv::cache
