// A file of captured vectors of any bytes: read, or refused with an Error(input).
#include <cstdint>
#include <cstdlib>

#include "measure/agreement/captured.h"
#include "tqkv/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const tqkv::measure::CapturedText text =
        tqkv::measure::parse_captured({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    for (const tqkv::measure::CapturedLayer& layer : text.layers) {
      // What measuring relies on.
      const auto rows = [&](int vectors, int heads) {
        return static_cast<std::size_t>(vectors) * static_cast<std::size_t>(heads) *
               static_cast<std::size_t>(layer.head_dim);
      };
      const int queries = static_cast<int>(layer.positions.size());
      if (layer.keys.size() != rows(layer.tokens, layer.kv_heads) || layer.values.size() != layer.keys.size() ||
          layer.queries.size() != rows(queries, layer.heads) || layer.heads % layer.kv_heads != 0 || queries == 0)
        std::abort();
      for (const int position : layer.positions)
        if (position < 0 || position >= layer.tokens) std::abort();
      if (!(layer.scale > 0) || layer.window < 0) std::abort();
    }
  } catch (const tqkv::Error& error) {
    if (error.kind() != tqkv::ErrorKind::input) std::abort();
  }
  return 0;
}
