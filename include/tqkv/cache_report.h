// CacheReport: what one session stores, and in how many bytes. Implemented in src/cache.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tqkv/kv_format.h"

namespace tqkv {

/// Element type of the recurrent state between steps.
enum class StateType { f32, bf16 };
std::string_view name(StateType type);

/// Bytes of one session's cache, by kind. `used` counts tokens, `allocated` whole pages.
struct CacheBytes {
  std::uint64_t kv_used = 0;
  std::uint64_t kv_allocated = 0;
  std::uint64_t kv_shared = 0;    ///< of kv_allocated: in pages that other sessions hold too
  std::uint64_t recurrent = 0;    ///< delta-net state
  std::uint64_t convolution = 0;  ///< last inputs of the causal convolution
  std::uint64_t state() const { return recurrent + convolution; }
  std::uint64_t used() const { return kv_used + state(); }
  std::uint64_t allocated() const { return kv_allocated + state(); }
};

struct LayerCache {
  int layer = 0;
  SideFormat k, v;  ///< as stored, not as asked
};

struct CacheReport {
  KvFormat format;  ///< effective
  StateType state = StateType::f32;
  int tokens = 0;
  CacheBytes bytes;
  std::vector<LayerCache> layers;  ///< attention layers only
  /// Bits of the activations that products use when many tokens come at once, by the device's names of the products:
  /// integers of 8 or 16 bits, floats of 32. Chosen by the format: coarse codes want finer activations. Empty where a
  /// device has no such choice.
  std::vector<std::pair<std::string, int>> activation_bits;
  double encode_s = 0;  ///< seconds spent so far on encoding keys and values into pages
};

}  // namespace tqkv
