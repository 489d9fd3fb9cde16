// The attention kernel, run by the emulator from the text that Metal gets, against plain operations.
#include <doctest/doctest.h>

#include <random>

#include "emulator/emulator.h"
#include "emulator/text.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

namespace mx = ::mlx::core;
using namespace tqkv::mlx;

mx::array numbers(mx::Shape shape, unsigned seed, float size = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, size);
  std::size_t count = 1;
  for (const int extent : shape) count *= static_cast<std::size_t>(extent);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return mx::array(values.begin(), std::move(shape), mx::float32);
}

SideFormat side(int bits) {
  SideFormat format;
  if (bits == 16) return format;
  format.kind = SideFormat::Kind::turboquant;
  format.bits = bits;
  format.scalar = KvScalar::corrected;
  return format;
}

AttentionInput input_of(int key_bits, int value_bits, int heads, int kv_heads, int dim, int first, int last) {
  const auto stored = [&](int bits, int spare, unsigned seed) {
    const SideFormat format = side(bits);
    return StoredSide{format, Codec(format, kv_heads, dim).encode(numbers({kv_heads, last + spare, dim}, seed))};
  };
  return {numbers({heads, dim}, 3, 0.2f), stored(key_bits, 3, 1), stored(value_bits, 5, 2), first, last};
}

double largest(const mx::array& x) {
  return static_cast<double>(mx::max(mx::abs(x)).item<float>());
}

double difference(const Partial& expected, const Partial& found) {
  const mx::array right = join({expected});
  return largest(mx::subtract(right, join({found}))) / largest(right);
}

}  // namespace

TEST_CASE("attention over 4-bit codes is that of plain operations") {
  for (const int tokens : {1, 7, 37, 300, 1029}) {
    const AttentionInput input = input_of(4, 4, 16, 2, 256, 0, tokens);
    CHECK(difference(attend_plain(input), attend(emulator::emulated({}), input)) < 2e-6);
  }
  MESSAGE(emulator::exported(attention_call(input_of(4, 4, 16, 2, 256, 0, 5), attention_plan(16, 2, 256))).text);
}
