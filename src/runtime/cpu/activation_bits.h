// How many bits of their activations products take when many tokens come at once.
#pragma once
#include "tqkv/kv_format.h"

namespace tqkv::cpu {

/// Bits of the activations that products use when many tokens come at once: integers of 8 or 16 bits in fast
/// precision, floats of 32 in f32. What is not named here uses the most.
struct ActivationBits {
  int expert_input = 16;  ///< gate_proj and up_proj of the routed experts
  int tolerant = 16;  ///< down_proj of the routed experts, the shared expert, q_proj, o_proj, q and k of the delta net
};

/// A code that rounding moves over a threshold changes by a whole step, so a packed cache multiplies the noise of 8-bit
/// activations, the more the coarser its steps are. Each cache takes 8 bits as far as its mean KL to the exact path
/// stays below 3e-3 (docs/agreement.md has the measurements), and 16 bits elsewhere.
ActivationBits activation_bits(const KvFormat& format);

}  // namespace tqkv::cpu
