// logits-cuda: q·k over packed keys on an NVIDIA card, against keys in f32, bf16 and fp8.
//   build/release/bin/logits-cuda [--output FILE.json] [--trials N]
// First every kernel is compared with the same products in double, on keys that the codec has encoded. Then each is
// timed: a graph of launches over copies that the cache of the card cannot hold, replayed between two events; the best
// of several grids. Ratios are to the faster of the two f32 kernels. They cannot honestly exceed the ratio of the
// bytes, which stands next to them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "codec/packing.h"
#include "codec/side_codec.h"
#include "cuda/card.h"
#include "cuda/logits.h"
#include "runtime/cuda/kernels/query_planes.h"

namespace {

using namespace tqkv;
using namespace tqkv::cuda;
using namespace tqkv::cuda::logits;

constexpr std::pair<Keys, const char*> kinds[] = {{Keys::f32, "f32"},
                                                  {Keys::tf32, "f32, tf32 products"},
                                                  {Keys::bf16, "bf16"},
                                                  {Keys::fp8, "fp8 e4m3"},
                                                  {Keys::turboquant4, "turboquant 4 bit"},
                                                  {Keys::turboquant3, "turboquant 3 bit"},
                                                  {Keys::turboquant2, "turboquant 2 bit"}};

/// A query [heads, dim] in the form that keys of a kind are multiplied with.
struct Query {
  Memory values, facts;
};
Query query_for(const Shape& shape, const std::vector<float>& query) {
  const auto dim = static_cast<std::size_t>(shape.dim);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.dim));
  std::vector<float> scaled;
  for (const float x : query) scaled.push_back(x * scale);
  const int bits = packed_bits(shape.keys);
  if (bits == 0) {
    if (shape.keys == Keys::f32 || shape.keys == Keys::tf32) return {on_card(scaled), nullptr};
    std::vector<std::uint16_t> halves;
    for (const float x : scaled) halves.push_back(shape.keys == Keys::bf16 ? f32_to_bf16(x) : f32_to_f16(x));
    return {on_card(halves), nullptr};
  }
  const int groups = (shape.heads + 7) / 8, blocks = shape.dim / block_channels;
  std::vector<std::uint32_t> words(static_cast<std::size_t>(groups * 2 * blocks * warp_lanes));
  std::vector<QueryFacts> facts(static_cast<std::size_t>(groups * 8));
  for (int head = 0; head < shape.heads; ++head) {
    const float* own = scaled.data() + static_cast<std::size_t>(head) * dim;
    float largest = 0;
    for (std::size_t i = 0; i < dim; ++i) largest = std::max(largest, std::abs(own[i]));
    const float step = plane_step(largest);
    QueryFacts& fact = facts[static_cast<std::size_t>(head)];
    // A level of a unit vector is centroid / sqrt(dim).
    fact = {step * levels_of(bits).step / std::sqrt(static_cast<float>(shape.dim)), 0, 0};
    for (int lane = head % 8 * 4; lane < head % 8 * 4 + 4; ++lane)
      for (int block = 0; block < blocks; ++block)
        for (int byte = 0; byte < 4; ++byte) {
          const PlaneBytes planes = plane_bytes(own[query_channel(lane, block, byte)], step);
          fact.high += planes.high;
          fact.low += planes.low;
          for (const int plane : {0, 1})
            words[static_cast<std::size_t>(((head / 8 * 2 + plane) * blocks + block) * warp_lanes + lane)] |=
                (static_cast<std::uint32_t>(plane == 0 ? planes.high : planes.low) & 255u) << (8 * byte);
        }
  }
  return {on_card(words), on_card(facts)};
}

/// Bytes of a value in e4m3, the nearest one, and the value of the byte.
float e4m3_value(std::uint8_t byte) {
  const int exponent = byte >> 3 & 15, mantissa = byte & 7;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                   : std::ldexp(1.0f + static_cast<float>(mantissa) / 8, exponent - 7);
  return byte & 128 ? -size : size;
}
std::uint8_t e4m3_byte(float value) {
  int best = 0;
  for (int byte = 0; byte < 127; ++byte)
    if (std::abs(e4m3_value(static_cast<std::uint8_t>(byte)) - std::abs(value)) <
        std::abs(e4m3_value(static_cast<std::uint8_t>(best)) - std::abs(value)))
      best = byte;
  return static_cast<std::uint8_t>(best | (value < 0 ? 128 : 0));
}

/// Keys [keys, dim] as a kind stores them, and what its kernel takes them for: levels are those of bytes (tests/cuda
/// has how near they are).
struct Stored {
  Memory keys, scalars;
  std::vector<float> decoded;
};
Stored stored(const Shape& shape, const std::vector<float>& keys) {
  const auto dim = static_cast<std::size_t>(shape.dim), count = keys.size() / dim;
  Stored out{{}, {}, std::vector<float>(keys.size())};
  const int bits = packed_bits(shape.keys);
  std::vector<std::uint16_t> scalars(count);
  if (bits > 0) {
    const codec::SideCodec side = codec::side_codec({SideFormat::Kind::turboquant, bits}, shape.dim);
    std::vector<std::uint32_t> words(count / tile_tokens * static_cast<std::size_t>(tile_words(bits, shape.dim)));
    std::vector<std::byte> bytes(side.vector_bytes());
    std::vector<std::uint8_t> codes(dim);
    for (std::size_t key = 0; key < count; ++key) {
      codec::encode(side, std::span(keys).subspan(key * dim, dim), bytes.data(), bytes.data() + side.code_bytes);
      codec::unpack(bits, bytes.data(), codes);
      scalars[key] = static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[side.code_bytes]) |
                                                std::to_integer<unsigned>(bytes[side.code_bytes + 1]) << 8);
      const LevelBytes levels = levels_of(bits);
      const float factor = f16_to_f32(scalars[key]) / std::sqrt(static_cast<float>(shape.dim));
      for (std::size_t channel = 0; channel < dim; ++channel)
        out.decoded[key * dim + channel] = level_of(bits, levels, codes[channel]) * factor;
      std::uint32_t* tile = words.data() + key / tile_tokens * static_cast<std::size_t>(tile_words(bits, shape.dim));
      for (int channel = 0; channel < shape.dim; ++channel)
        put_code(bits, shape.dim, key_code(static_cast<int>(key % tile_tokens), channel),
                 codes[static_cast<std::size_t>(channel)], tile);
    }
    out.keys = on_card(words);
  } else if (shape.keys == Keys::fp8) {
    std::vector<std::uint8_t> bytes(keys.size());
    for (std::size_t key = 0; key < count; ++key) {
      float largest = 0;
      for (std::size_t i = 0; i < dim; ++i) largest = std::max(largest, std::abs(keys[key * dim + i]));
      scalars[key] = f32_to_f16(largest / 448.0f);
      const float scale = f16_to_f32(scalars[key]);
      for (std::size_t i = key * dim; i < (key + 1) * dim; ++i) {
        bytes[i] = e4m3_byte(keys[i] / scale);
        out.decoded[i] = e4m3_value(bytes[i]) * scale;
      }
    }
    out.keys = on_card(bytes);
  } else if (shape.keys == Keys::bf16) {
    std::vector<std::uint16_t> halves(keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
      halves[i] = f32_to_bf16(keys[i]);
      out.decoded[i] = bf16_to_f32(halves[i]);
    }
    out.keys = on_card(halves);
  } else {
    out.decoded = keys;
    out.keys = on_card(keys);
  }
  out.scalars = on_card(scalars);
  return out;
}

/// The largest error of a kernel's logits against products in double, over the largest logit.
double error_of(const Shape& shape) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const auto dim = static_cast<std::size_t>(shape.dim), heads = static_cast<std::size_t>(shape.heads);
  constexpr std::size_t count = 16 * 37;
  std::vector<float> keys(count * dim), query(heads * dim);
  for (float& x : keys) x = normal(random);
  for (float& x : query) x = normal(random);
  const Stored store = stored(shape, keys);
  const Query own = query_for(shape, query);
  const Memory out = allocate(count * heads * sizeof(float));
  require(cudaMemset(out.get(), 0xff, count * heads * sizeof(float)), "poison");
  const Buffers buffers{store.keys.get(),
                        store.scalars.get(),
                        own.values.get(),
                        static_cast<const QueryFacts*>(own.facts.get()),
                        levels_of(std::max(2, packed_bits(shape.keys))),
                        static_cast<float*>(out.get())};
  if (!launch(shape, buffers, count / tile_tokens, 3, nullptr)) throw Failure("there is no such kernel");
  require(cudaDeviceSynchronize(), "a kernel");
  std::vector<float> found(count * heads);
  require(cudaMemcpy(found.data(), out.get(), found.size() * sizeof(float), cudaMemcpyDeviceToHost), "a copy");
  double worst = 0, largest = 0;
  for (std::size_t key = 0; key < count; ++key)
    for (std::size_t head = 0; head < heads; ++head) {
      double expected = 0;
      for (std::size_t i = 0; i < dim; ++i)
        expected += static_cast<double>(query[head * dim + i]) * static_cast<double>(store.decoded[key * dim + i]);
      expected /= std::sqrt(static_cast<double>(dim));
      const double apart = std::abs(static_cast<double>(found[key * heads + head]) - expected);
      worst = std::max(worst, std::isfinite(apart) ? apart : 1e9);
      largest = std::max(largest, std::abs(expected));
    }
  return worst / largest;
}

constexpr std::size_t beyond_cache = std::size_t{640} << 20;  // bytes; the caches of cards so far have 50 to 126 MB

struct Time {
  double us = 0;
  int blocks = 0;  // a multiprocessor
};

Time time_of(const Shape& shape, std::size_t keys, int trials, Timer& timer) {
  const std::size_t bytes = keys * key_bytes(shape),
                    copies = std::clamp<std::size_t>(beyond_cache / bytes + 1, 2, 4096);
  const std::size_t of_keys = keys * (key_bytes(shape) - (packed_bits(shape.keys) || shape.keys == Keys::fp8 ? 2 : 0));
  const Memory all = allocate(copies * of_keys), scalars = allocate(copies * keys * 2);
  fill(shape.keys, all.get(), copies * of_keys, 1, timer.stream());
  fill(Keys::bf16, scalars.get(), copies * keys * 2, 2, timer.stream());
  const auto heads = static_cast<std::size_t>(shape.heads);
  std::vector<float> values(heads * static_cast<std::size_t>(shape.dim), 0.5f);
  const Query query = query_for(shape, values);
  const Memory out = allocate(keys * heads * sizeof(float));
  const int nodes = static_cast<int>(std::clamp<std::size_t>(copies, 8, 64));
  Time best;
  for (const int blocks : grids) {
    const double us = timer.median_us(nodes, trials, [&](int node) {
      const std::size_t copy = static_cast<std::size_t>(node) % copies;
      const Buffers buffers{static_cast<const std::byte*>(all.get()) + copy * of_keys,
                            static_cast<const std::byte*>(scalars.get()) + copy * keys * 2,
                            query.values.get(),
                            static_cast<const QueryFacts*>(query.facts.get()),
                            levels_of(std::max(2, packed_bits(shape.keys))),
                            static_cast<float*>(out.get())};
      if (!launch(shape, buffers, keys / tile_tokens, blocks * multiprocessors(), timer.stream()))
        throw Failure("there is no such kernel");
    });
    if (best.blocks == 0 || us < best.us) best = {us, blocks};
  }
  require(cudaGetLastError(), "a kernel");
  return best;
}

/// What a kernel may differ by: queries of 11 bits (tf32, f16) or 8 (bf16), or of planes.
double allowed(Keys keys) {
  return keys == Keys::f32 ? 1e-5 : keys == Keys::bf16 ? 5e-3 : keys == Keys::tf32 || keys == Keys::fp8 ? 1e-3 : 1e-4;
}

int run(int argc, char** argv) {
  std::string output;
  int trials = 9;
  bool check_only = false;
  CLI::App app("q·k over packed keys on an NVIDIA card, against keys in f32, bf16 and fp8");
  app.add_option("--output", output, "Every figure, as JSON");
  app.add_option("--trials", trials, "Trials of a figure; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--check", check_only, "Compare with products in double, and time nothing");
  CLI11_PARSE(app, argc, argv);

  cudaDeviceProp card{};
  require(cudaGetDeviceProperties(&card, 0), "the card");
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  nlohmann::json document = {{"schema", 1},
                             {"kind", "logits on a card"},
                             {"card", card.name},
                             {"multiprocessors", card.multiProcessorCount},
                             {"driver", driver},
                             {"cuda", runtime},
                             {"trials", trials},
                             {"errors", nlohmann::json::array()},
                             {"rows", nlohmann::json::array()}};
  int wrong = 0;
  for (const auto& [keys, name] : kinds)
    for (const int dim : {128, 256})
      for (const int heads : {1, 8, 16}) {
        const double error = error_of({keys, dim, heads});
        const bool right = error < allowed(keys);
        wrong += right ? 0 : 1;
        document["errors"].push_back({{"keys", name}, {"dim", dim}, {"heads", heads}, {"error", error}});
        if (!right)
          fmt::print(stderr, "{}, dim {}, {} heads: off by {:.2g} of the largest logit\n", name, dim, heads, error);
      }
  fmt::print("{} kernels against products in double on {}: {} wrong\n", document["errors"].size(), card.name, wrong);
  if (wrong > 0) return 1;
  if (check_only) return 0;

  Timer timer;
  const double rate = read_rate(trials, timer);
  document["read_gb_s"] = rate;
  fmt::print("a read reaches {:.0f} GB/s\n\n{:>9} {:>4} {:>5}  {:<20} {:>9} {:>7} {:>6} {:>7} {:>7}\n", rate, "keys",
             "dim", "heads", "kind", "us", "GB/s", "read", "ratio", "bytes");
  for (const int dim : {128, 256})
    for (const int heads : {1, 8, 16})
      for (const std::size_t keys : {4096u, 16384u, 131072u, 262144u, 1048576u}) {
        std::map<Keys, Time> times;
        for (const auto& [kind, name] : kinds) times[kind] = time_of({kind, dim, heads}, keys, trials, timer);
        const double plain = std::min(times[Keys::f32].us, times[Keys::tf32].us);
        const auto all_bytes = [&](Keys kind) {  // the logits are written, too
          return static_cast<double>(keys) * (static_cast<double>(key_bytes({kind, dim, heads})) + 4.0 * heads);
        };
        for (const auto& [kind, name] : kinds) {
          const Time& time = times[kind];
          const double gb_s = all_bytes(kind) / time.us / 1e3, ratio = plain / time.us,
                       bytes = all_bytes(Keys::f32) / all_bytes(kind);
          document["rows"].push_back({{"keys", keys},
                                      {"dim", dim},
                                      {"heads", heads},
                                      {"kind", name},
                                      {"us", time.us},
                                      {"blocks", time.blocks},
                                      {"gb_s", gb_s},
                                      {"ratio", ratio},
                                      {"byte_ratio", bytes}});
          fmt::print("{:>9} {:>4} {:>5}  {:<20} {:>9.2f} {:>7.0f} {:>6.2f} {:>7.2f} {:>7.2f}\n", keys, dim, heads, name,
                     time.us, gb_s, gb_s / rate, ratio, bytes);
        }
        std::fflush(stdout);
      }
  if (!output.empty()) std::ofstream(output) << document.dump(1) << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "logits-cuda: {}\n", error.what());
    return 1;
  }
}
