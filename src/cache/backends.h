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
  std::vector<std::string_view> keys;  ///< in the order of the canonical string; options of every backend follow them
  std::vector<int> k_bits, v_bits;     ///< what `k` and `v` take, beside 16 and 32
  std::vector<std::string_view> bits;  ///< what `bits` takes: "3.5" is one bit more for keys
  std::vector<int> groups;
  Settings defaults;
  SideFormat (*k_side)(const Settings& settings) = nullptr;  ///< for sides that are not plain
  SideFormat (*v_side)(const Settings& settings) = nullptr;

  bool has(std::string_view key) const;
};

std::span<const BackendRules> all_rules();
const BackendRules& rules(Backend backend);

/// Keys that every backend but baseline takes: functions of absolute positions and layers.
inline constexpr std::string_view option_keys[] = {"window", "sink", "boundary"};

}  // namespace tqkv::cache
