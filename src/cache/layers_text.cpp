#include "cache/layers_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "tqkv/cache_report.h"
#include "tqkv/kv_format.h"

namespace tqkv::cache {
namespace {

std::string sides_text(const LayerText& layer) {
  if (layer.k == layer.v) return "K and V " + layer.k;
  return fmt::format("K {}, V {}", layer.k, layer.v);
}

}  // namespace

std::vector<LayerText> describe(const std::vector<LayerCache>& layers) {
  std::vector<LayerText> texts;
  texts.reserve(layers.size());
  for (const LayerCache& one : layers) texts.push_back({one.layer, one.k.describe(), one.v.describe()});
  return texts;
}

std::string layers_text(const std::vector<LayerText>& layers) {
  struct Group {
    std::string sides, numbers;
    int layers = 0;
  };
  std::vector<Group> groups;
  for (const LayerText& layer : layers) {
    const std::string sides = sides_text(layer);
    auto found = std::find_if(groups.begin(), groups.end(), [&](const Group& group) { return group.sides == sides; });
    if (found == groups.end()) found = groups.insert(groups.end(), {sides, "", 0});
    found->numbers += fmt::format("{}{}", found->numbers.empty() ? "" : ",", layer.layer);
    ++found->layers;
  }
  std::string out;
  for (const Group& group : groups) {
    out += fmt::format("{}{} in layer{} {}", out.empty() ? "" : "; ", group.sides, group.layers == 1 ? "" : "s",
                       group.numbers);
  }
  return out;
}

std::string layers_text(const std::vector<LayerCache>& layers) {
  return layers_text(describe(layers));
}

std::string unused_mean(const KvFormat& format, int tokens) {
  if (tokens >= format.mean) return "";
  return fmt::format("mean={} was not reached: all {} keys are plain", format.mean, tokens);
}

}  // namespace tqkv::cache
