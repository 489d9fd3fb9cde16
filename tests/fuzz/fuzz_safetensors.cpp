// A safetensors file of any bytes: parsed, or refused with an Error(checkpoint).
#include <cstdint>
#include <cstdlib>

#include "loaders/safetensors.h"
#include "tqkv/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  try {
    std::size_t end = 0;
    for (const auto& entry : tqkv::parse_safetensors(file, "fuzz")) {
      std::size_t bytes = tqkv::size_of(entry.dtype);
      for (const auto extent : entry.shape) bytes *= static_cast<std::size_t>(extent);
      // What readers rely on: inside the file, as many bytes as the shape says, nothing twice.
      if (entry.end > size || entry.begin > entry.end || entry.end - entry.begin != bytes) std::abort();
      if (bytes != 0 && entry.begin < end) std::abort();
      if (bytes != 0) end = entry.end;
    }
  } catch (const tqkv::Error& error) {
    if (error.kind() != tqkv::ErrorKind::checkpoint) std::abort();
  }
  return 0;
}
