// How many bits of their activations products take when many tokens come at once.
#pragma once
#include "tqkv/engine.h"
#include "tqkv/kv_format.h"

namespace tqkv::cpu {

/// A code that rounding moves over a threshold changes by a whole step, so a packed cache multiplies the noise of 8-bit
/// activations, the more the coarser its steps are. Each cache takes 8 bits as far as its mean KL to the exact path
/// stays below 3e-3 (docs/agreement.md has the measurements), and 16 bits elsewhere.
ActivationBits activation_bits(const KvFormat& format);

}  // namespace tqkv::cpu
