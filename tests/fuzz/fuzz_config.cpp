// A config.json of any bytes: parsed, or refused with an Error(config). What is parsed must give shapes that can be
// counted.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/weights.h"
#include "tqkv/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto config = tqkv::ModelConfig::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
    if (config.rotary_dim < 2 || config.rotary_dim > config.head_dim) std::abort();
    for (const auto& tensor : tqkv::expected_tensors(config)) {
      std::uint64_t bytes = tqkv::size_of(tensor.dtype);
      for (const auto extent : tensor.shape) {
        if (extent <= 0) std::abort();
        if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) std::abort();
      }
      if (bytes != tensor.bytes) std::abort();
    }
  } catch (const tqkv::Error& error) {
    if (error.kind() != tqkv::ErrorKind::config) std::abort();
  }
  return 0;
}
