// What the backends are made of: the keys of their strings and the sides that follow from them. One entry a backend is
// its registration (docs/adding-a-codec.md).
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "tqkv/kv_format.h"

namespace tqkv::cache {

/// The values of an entry's keys, one for keys and one for values where a key has both.
struct Settings {
  struct Side {
    int bits = 16;
    int group = 0;
    KvScalar scalar = default_scalar;
    int states = 0;  // 0: the default of these bits
  };
  Side k, v;
  bool split = false;
  int rows = 0;
  Projection projection = Projection::orthogonal;
};

struct BackendRules {
  Backend backend = Backend::baseline;
  std::string_view name;
  std::vector<std::string_view> keys;  ///< of side_keys, in their order
  std::vector<int> k_bits, v_bits;     ///< what `k` and `v` take, next to 16 and 32
  struct Bits {
    std::string_view name;  ///< "3.5"
    int k = 0, v = 0;
  };
  std::vector<Bits> bits;  ///< what `bits` takes
  std::vector<int> groups;
  bool combines = false;  ///< keys can be centred (`mean`), and the two sides can be of two such backends
  Settings defaults;
  SideFormat (*k_side)(const Settings& settings) = nullptr;  ///< for sides that are not plain
  SideFormat (*v_side)(const Settings& settings) = nullptr;

  bool has(std::string_view key) const;
};

std::span<const BackendRules> all_rules();
const BackendRules& rules(Backend backend);
/// The version that the key `table` names, of backends that have it.
int table_version(Backend backend);

/// Keys that every backend but baseline takes, `mean` where its rules say so: functions of absolute positions and
/// layers.
inline constexpr std::string_view option_keys[] = {"window", "sink", "mean", "boundary", "layers"};

/// The other keys but `bits`, in the order of canonical strings.
inline constexpr std::string_view side_keys[] = {"k",      "v",    "values",     "split", "group", "scalar",
                                                 "states", "rows", "projection", "seed",  "table"};

}  // namespace tqkv::cache
