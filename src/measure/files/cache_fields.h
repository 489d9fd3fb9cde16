// How files name what a cache stores and what it takes.
#pragma once
#include "cache/layers_text.h"
#include "measure/files/fields.h"
#include "tqkv/cache_report.h"

namespace tqkv::measure {

template <class Fields>
void describe(Fields& fields, Described<Fields, cache::LayerText>& layer) {
  fields.field("layer", layer.layer, Limits{0, 1 << 20});
  fields.field("k", layer.k);
  fields.field("v", layer.v);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, CacheBytes>& bytes) {
  fields.field("kv_used", bytes.kv_used);
  fields.field("kv_allocated", bytes.kv_allocated);
  fields.derived("state", bytes.state());
  fields.field("recurrent", bytes.recurrent);
  fields.field("convolution", bytes.convolution);
  fields.require(bytes.kv_used <= bytes.kv_allocated, "uses more bytes than are allocated");
}

}  // namespace tqkv::measure
