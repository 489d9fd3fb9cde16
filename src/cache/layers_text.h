// How the layers of a cache store, in words.
#pragma once
#include <string>
#include <vector>

namespace tqkv {

struct KvFormat;
struct LayerCache;

namespace cache {

/// A layer with both sides as they describe themselves.
struct LayerText {
  int layer = 0;
  std::string k, v;
};
std::vector<LayerText> describe(const std::vector<LayerCache>& layers);
/// "K and V bf16 in layers 3,7": how layers store keys and values; those that store alike share an entry.
std::string layers_text(const std::vector<LayerText>& layers);
std::string layers_text(const std::vector<LayerCache>& layers);
/// What a text that is shorter than its format's mean goes without: "mean=64 was not reached: all 40 keys are plain".
/// Empty for others.
std::string unused_mean(const KvFormat& format, int tokens);

}  // namespace cache
}  // namespace tqkv
