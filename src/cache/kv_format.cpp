#include "tqkv/kv_format.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "cache/backends.h"

namespace tqkv {
namespace {

bool is_plain(const SideFormat& side) {
  return side.kind == SideFormat::Kind::plain;
}

// "3,7/k=8/v=5,11/k=5": neighbours with the same sides share one list; a side is named where it is not the format's.
std::string layers_text(const KvFormat& format) {
  std::string text;
  const auto& layers = format.layers;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ",", layers[i].layer);
    if (i + 1 < layers.size() && layers[i].k == layers[i + 1].k && layers[i].v == layers[i + 1].v) continue;
    if (layers[i].k != format.k) text += fmt::format("/k={}", layers[i].k.bits);
    if (layers[i].v != format.v) text += fmt::format("/v={}", layers[i].v.bits);
  }
  return text;
}

}  // namespace

std::string_view name(Backend backend) {
  return cache::rules(backend).name;
}

std::span<const Backend> all_backends() {
  static const std::vector<Backend> all = [] {
    std::vector<Backend> backends;
    for (const auto& rules : cache::all_rules()) backends.push_back(rules.backend);
    return backends;
  }();
  return all;
}

std::string KvFormat::canonical() const {
  if (backend == Backend::baseline) return fmt::format("baseline:bits={}", k.bits);
  std::string text(name(backend));
  const auto &k_rules = cache::rules(backend), &v_rules = cache::rules(values);
  for (const std::string_view key : cache::side_keys) {
    const bool k_has = k_rules.has(key) && !is_plain(k), v_has = v_rules.has(key) && !is_plain(v);
    // One value when both sides have the same or only one has it.
    const auto both = [&](const auto& k_value, const auto& v_value, bool k_shows = true, bool v_shows = true) {
      const bool first = k_has && k_shows, second = v_has && v_shows;
      if (!first && !second) return;
      if (!first || !second || k_value == v_value)
        text += fmt::format(":{}={}", key, first ? k_value : v_value);
      else
        text += fmt::format(":{}={}/{}", key, k_value, v_value);
    };
    if (key == "k") text += fmt::format(":k={}", k.bits);
    if (key == "v") text += fmt::format(":v={}", v.bits);
    if (key == "values" && values != backend) text += fmt::format(":values={}", name(values));
    if (key == "group") both(k.group, v.group, k.group != 0, v.group != 0);
    if (key == "scalar") both(name(k.scalar), name(v.scalar));
    if (key == "states") both(k.states, v.states);
    if (key == "split" && (k.kind == SideFormat::Kind::split || v.kind == SideFormat::Kind::split)) text += ":split=1";
    if (key == "rows" && k_has) text += fmt::format(":rows={}", k.rows);
    if (key == "projection") both(name(k.projection), name(v.projection), true, !k_has);
    if (key == "seed" && (k_has || v_has)) text += fmt::format(":seed={}", seed);
    if (key == "table") both(cache::table_version(backend), cache::table_version(values));
  }
  if (window > 0) text += fmt::format(":window={}", window);
  if (sink > 0) text += fmt::format(":sink={}", sink);
  if (mean > 0) text += fmt::format(":mean={}", mean);
  if (boundary > 0) text += fmt::format(":boundary={}/{}", boundary, edge.bits);
  if (!layers.empty()) text += ":layers=" + layers_text(*this);
  return text;
}

KvFormat::Sides KvFormat::sides(int layer, int index, int count) const {
  if (boundary > 0 && (index < boundary || index >= count - boundary)) return {edge, edge};
  for (const LayerSides& own : layers)
    if (own.layer == layer) return {own.k, own.v};
  return {k, v};
}

KvFormat KvFormat::in_f32() const {
  KvFormat format = *this;
  const auto widen = [](SideFormat& side) {
    if (side.kind == SideFormat::Kind::plain) side.bits = 32;
  };
  widen(format.k);
  widen(format.v);
  for (LayerSides& own : format.layers) {
    widen(own.k);
    widen(own.v);
  }
  std::erase_if(format.layers, [&](const LayerSides& own) { return own.k == format.k && own.v == format.v; });
  return format;
}

}  // namespace tqkv
