#include "runtime/cpu/activation_bits.h"

#include <doctest/doctest.h>

#include <string>

using namespace tqkv;

TEST_CASE("the coarser the codes of a cache are, the more bits its activations have") {
  const auto bits = [](const char* format) {
    const cpu::ActivationBits chosen = cpu::activation_bits(KvFormat::parse(format));
    return std::to_string(chosen.expert_input) + "/" + std::to_string(chosen.tolerant);
  };
  for (const char* fine : {"baseline", "mlx_quant:bits=8", "turboquant", "turboquant:k=4:v=16", "turboquant:bits=5"})
    CHECK_MESSAGE(bits(fine) == "8/8", fine);
  for (const char* middle : {"mlx_quant", "rotated_quant", "turboquant:bits=3.5", "turboquant:bits=3"})
    CHECK_MESSAGE(bits(middle) == "8/16", middle);
  for (const char* coarse : {"turboquant:bits=2.5", "turboquant:bits=2", "turboquant:k=16:v=2"})
    CHECK_MESSAGE(bits(coarse) == "16/16", coarse);
}
