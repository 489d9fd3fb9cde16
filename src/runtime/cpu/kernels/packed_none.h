// Where integers gain nothing: every format is decoded and met in f32.
#include "runtime/cpu/kernels/packed_no_values.h"

constexpr bool integer_keys = false;
constexpr std::size_t key_bytes = 0;
using QueryWord = std::int8_t;

HWY_INLINE int key_channel(const codec::SideCodec&, int place) {
  return place;
}
HWY_INLINE void integer_scores(const codec::SideCodec&, const Byte*, int, const Queries8&, const KeyScales&, const int*,
                               float*, Byte*) {}
HWY_INLINE void trellis_integer_scores(const codec::SideCodec&, const Byte*, int, const Queries8&, const KeyScales&,
                                       const int*, float*, Byte*) {}
