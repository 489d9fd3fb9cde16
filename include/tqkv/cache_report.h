// CacheReport: what one session stores, and in how many bytes. Implemented in src/cache.
#pragma once
#include <cstdint>
#include <string_view>
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

/// Bits of the activations that products use when many tokens come at once: integers of 8 or 16 bits in fast
/// precision, floats of 32 in f32. What is not named here uses the most.
struct ActivationBits {
  int expert_input = 16;  ///< gate_proj and up_proj of the routed experts
  int tolerant = 16;  ///< down_proj of the routed experts, the shared expert, q_proj, o_proj, q and k of the delta net
};

struct CacheReport {
  KvFormat format;  ///< effective
  StateType state = StateType::f32;
  int tokens = 0;
  CacheBytes bytes;
  std::vector<LayerCache> layers;  ///< attention layers only
  ActivationBits activations;      ///< chosen by the format: coarse codes want finer activations
  double encode_s = 0;             ///< seconds spent so far on encoding keys and values into pages
};

}  // namespace tqkv
