// Decode attention of one layer of the 35B model over a cache of N tokens, formats interleaved:
//   build/release/bin/layer-attention [--depth N] [--rounds N] [--device DEVICE] FORMAT...
// Prints each format's median time and the median of its ratio to the first one, round by round, with quartiles. A
// round runs every format for the same number of tokens. The cache stays where it was left by the round before.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/devices.h"
#include "runtime/layer_attention.h"
#include "tqkv/error.h"

namespace {

using namespace tqkv;

constexpr LayerShape shape{16, 2, 256, 0.0625f};
constexpr int tokens_of_a_round = 16;

std::vector<float> normal(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1) + 0.5)];
}

int run(int argc, char** argv) {
  int depth = 16384, rounds = 30;
  std::string device = "cpu";
  std::vector<std::string> formats;
  CLI::App app("Times the decode attention of one layer");
  app.add_option("--depth", depth, "Tokens in the cache")->check(CLI::Range(1, 1 << 20));
  app.add_option("--rounds", rounds, "Timed rounds")->check(CLI::Range(1, 100000));
  app.add_option("--device", device, "As in cpu:isa=avx2:threads=2");
  app.add_option("FORMAT", formats, "Cache formats; ratios are to the first one")->required();
  CLI11_PARSE(app, argc, argv);

  DeviceOptions options;
  options.device = Device::parse(device);
  const DeviceKind& kind = kind_of(options.device);
  const auto row = static_cast<std::size_t>(shape.kv_heads * shape.head_dim);
  const std::vector<float> keys = normal(row * 1024, 1), values = normal(row * 1024, 2),
                           query = normal(static_cast<std::size_t>(shape.heads * shape.head_dim), 3);
  std::vector<std::unique_ptr<LayerAttention>> layers;
  for (const std::string& format : formats) {
    layers.push_back(kind.attention(shape, KvFormat::parse(format), 3, 0, 1, options));
    for (int fed = 0; fed < depth; fed += 1024) {
      const std::size_t count = row * static_cast<std::size_t>(std::min(1024, depth - fed));
      layers.back()->feed(std::span(keys).first(count), std::span(values).first(count));
    }
  }
  std::vector<std::vector<double>> seconds(formats.size()), ratios(formats.size());
  std::vector<float> out(query.size());
  for (int round = -1; round < rounds; ++round) {
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      for (int token = 0; token < tokens_of_a_round; ++token) layers[i]->attend(query, 0, out);
      const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (round >= 0) seconds[i].push_back(took / tokens_of_a_round);  // the first round warms up
    }
    for (std::size_t i = 0; round >= 0 && i < layers.size(); ++i)
      ratios[i].push_back(seconds[i].back() / seconds[0].back());
  }
  for (std::size_t i = 0; i < layers.size(); ++i)
    fmt::print("{:9.1f} us  {:.3f} [{:.3f} {:.3f}]  {}\n", 1e6 * quantile(seconds[i], 0.5), quantile(ratios[i], 0.5),
               quantile(ratios[i], 0.25), quantile(ratios[i], 0.75), formats[i]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const tqkv::Error& error) {
    fmt::print(stderr, "layer-attention: {}\n", error.what());
    return 1;
  }
}
