// attention-cuda: attention of one decoded token over packed pages on an NVIDIA card, a layer of the 35B model (2 KV
// heads with 8 queries of 256 each).
//   build/release/bin/attention-cuda [--check] [--output FILE.json] [--trials N]
// First the kernels are compared with attention in double over what the pages decode to, for numbers of tokens that
// divide nothing. Then they are timed over pages that the cache of the card cannot hold.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <random>
#include <string>

#include "base/float16.h"
#include "codec/packing.h"
#include "codec/side_codec.h"
#include "cuda/card.h"
#include "cuda/logits.h"
#include "runtime/cuda/kernels/attend.h"
#include "runtime/cuda/kernels/query_planes.h"

namespace {

using namespace tqkv;
using namespace tqkv::cuda;

constexpr int kv_heads = 2, dim = 256, queries = kv_heads * group_queries;

struct Pages {
  std::vector<std::vector<std::uint32_t>> words;  // [pages * KV heads]
  std::vector<float> keys, values;                // [KV heads][tokens][dim], decoded
};

/// Vectors by chance, as the codec stores them.
Pages pages_of(int bits, int tokens) {
  std::mt19937 random(static_cast<unsigned>(tokens * 8 + bits));
  std::normal_distribution<float> normal;
  const PageLayout layout = page_layout(bits, bits, dim);
  const codec::SideCodec side = codec::side_codec({SideFormat::Kind::turboquant, bits}, dim);
  const LevelBytes levels = levels_of(bits);
  Pages pages;
  pages.words.assign(static_cast<std::size_t>((tokens + page_tokens - 1) / page_tokens * kv_heads),
                     std::vector<std::uint32_t>(static_cast<std::size_t>(layout.words())));
  for (auto* side_values : {&pages.keys, &pages.values})
    side_values->resize(static_cast<std::size_t>(kv_heads * tokens * dim));
  // What nobody has written is not a number: no result may depend on it.
  for (auto& page : pages.words) {
    auto* scalars = reinterpret_cast<std::uint16_t*>(page.data() + layout.key_scalars());
    std::fill(scalars, scalars + 2 * page_tokens, std::uint16_t{0xffff});
  }
  std::vector<float> vector(dim);
  std::vector<std::byte> bytes(side.vector_bytes());
  std::vector<std::uint8_t> codes(dim);
  for (const bool keys : {true, false})
    for (int head = 0; head < kv_heads; ++head)
      for (int token = 0; token < tokens; ++token) {
        for (float& x : vector) x = normal(random) * (keys ? 1.5f : 0.3f);
        codec::encode(side, vector, bytes.data(), bytes.data() + side.code_bytes);
        codec::unpack(bits, bytes.data(), codes);
        std::uint16_t scalar = 0;
        std::memcpy(&scalar, bytes.data() + side.code_bytes, sizeof scalar);
        auto& page = pages.words[static_cast<std::size_t>(token / page_tokens * kv_heads + head)];
        const int in_page = token % page_tokens, tile = in_page / tile_tokens, in_tile = in_page % tile_tokens;
        std::uint32_t* words =
            page.data() + (keys ? tile * layout.key_tile : layout.values() + tile * layout.value_tile);
        float* decoded =
            (keys ? pages.keys : pages.values).data() + static_cast<std::size_t>((head * tokens + token) * dim);
        for (int channel = 0; channel < dim; ++channel) {
          const std::uint8_t code = codes[static_cast<std::size_t>(channel)];
          put_code(bits, dim, keys ? key_code(in_tile, channel) : value_code(in_tile, channel), code, words);
          decoded[channel] = level_of(bits, levels, code) * f16_to_f32(scalar) / 16.0f;  // sqrt(dim)
        }
        auto* scalars =
            reinterpret_cast<std::uint16_t*>(page.data() + (keys ? layout.key_scalars() : layout.value_scalars()));
        scalars[in_page] = scalar;
      }
  return pages;
}

/// Queries in planes, and what belongs to them.
struct Queries {
  Memory planes, facts;
};
Queries queries_of(const std::vector<float>& values, const LevelBytes& key_levels) {
  constexpr int blocks = dim / block_channels;
  std::vector<std::uint32_t> words(static_cast<std::size_t>(kv_heads * 2 * blocks * warp_lanes));
  std::vector<AttendQuery> facts;
  for (int query = 0; query < queries; ++query) {
    const float* own = values.data() + static_cast<std::size_t>(query * dim);
    float largest = 0;
    for (int i = 0; i < dim; ++i) largest = std::max(largest, std::abs(own[i]));
    const float step = plane_step(largest);
    AttendQuery fact{step * key_levels.step * std::numbers::log2e_v<float> / static_cast<float>(dim), 0, 0};
    for (int lane = query % group_queries * 4; lane < query % group_queries * 4 + 4; ++lane)
      for (int block = 0; block < blocks; ++block)
        for (int byte = 0; byte < 4; ++byte) {
          const PlaneBytes planes = plane_bytes(own[query_channel(lane, block, byte)], step);
          fact.high += planes.high;
          fact.low += planes.low;
          for (const int plane : {0, 1})
            words[static_cast<std::size_t>(((query / group_queries * 2 + plane) * blocks + block) * warp_lanes +
                                           lane)] |=
                (static_cast<std::uint32_t>(plane == 0 ? planes.high : planes.low) & 255u) << (8 * byte);
        }
    facts.push_back(fact);
  }
  return {on_card(words), on_card(facts)};
}

std::vector<float> some_queries() {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(queries * dim));
  for (float& x : values) x = normal(random) * 2.0f;
  return values;
}

/// The root of the mean square error of the kernels' results over that of the results.
double error_of(int bits, int first, int tokens, int spans) {
  const Pages pages = pages_of(bits, tokens);
  std::vector<Memory> kept;
  std::vector<const std::uint32_t*> table;
  for (const auto& page : pages.words) {
    kept.push_back(on_card(page));
    table.push_back(static_cast<const std::uint32_t*>(kept.back().get()));
  }
  const Memory on_table = on_card(table);
  const std::vector<float> values = some_queries();
  const LevelBytes levels = levels_of(bits);
  const Queries own = queries_of(values, levels);
  const std::size_t partial = static_cast<std::size_t>(kv_heads * spans * partial_floats(dim)) * sizeof(float),
                    size = static_cast<std::size_t>(queries * dim) * sizeof(float);
  const Memory partials = allocate(partial), out = allocate(size);
  require(cudaMemset(partials.get(), 0xff, partial), "poison");
  require(cudaMemset(out.get(), 0xff, size), "poison");
  AttendWork work{static_cast<const std::uint32_t* const*>(on_table.get()),
                  static_cast<const std::uint32_t*>(own.planes.get()),
                  static_cast<const AttendQuery*>(own.facts.get()),
                  kv_heads,
                  first,
                  tokens,
                  spans,
                  levels,
                  levels,
                  static_cast<float*>(partials.get()),
                  static_cast<float*>(out.get())};
  if (!attend(bits, dim, work, nullptr)) throw Failure("there is no such kernel");
  require(cudaDeviceSynchronize(), "a kernel");
  std::vector<float> found(static_cast<std::size_t>(queries * dim));
  require(cudaMemcpy(found.data(), out.get(), size, cudaMemcpyDeviceToHost), "a copy");

  double error = 0, all = 0;
  for (int query = 0; query < queries; ++query) {
    const int head = query / group_queries;
    std::vector<double> weights;
    double largest = -1e300, sum = 0;
    const auto row = [&](const std::vector<float>& of, int token) {
      return of.data() + static_cast<std::size_t>((head * tokens + token) * dim);
    };
    for (int token = first; token < tokens; ++token) {
      double score = 0;
      for (int i = 0; i < dim; ++i)
        score += static_cast<double>(values[static_cast<std::size_t>(query * dim + i)]) *
                 static_cast<double>(row(pages.keys, token)[i]);
      weights.push_back(score / 16.0);
      largest = std::max(largest, weights.back());
    }
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    for (int i = 0; i < dim; ++i) {
      double expected = 0;
      for (int token = first; token < tokens; ++token)
        expected +=
            weights[static_cast<std::size_t>(token - first)] / sum * static_cast<double>(row(pages.values, token)[i]);
      const double apart = static_cast<double>(found[static_cast<std::size_t>(query * dim + i)]) - expected;
      error += std::isfinite(apart) ? apart * apart : 1e9;
      all += expected * expected;
    }
  }
  return std::sqrt(error / all);
}

struct Figures {
  double attend_us = 0, both_us = 0;
};

Figures time_of(int bits, int tokens, int spans, int trials, Timer& timer) {
  const PageLayout layout = page_layout(bits, bits, dim);
  const auto pages = static_cast<std::size_t>((tokens + page_tokens - 1) / page_tokens * kv_heads),
             page = static_cast<std::size_t>(layout.words()) * 4;
  const std::size_t copies = std::clamp<std::size_t>((std::size_t{640} << 20) / (pages * page) + 1, 2, 4096);
  const Memory memory = allocate(copies * pages * page);
  logits::fill(logits::Keys::bf16, memory.get(), copies * pages * page, 1,
               timer.stream());  // no scalar is a not-a-number
  std::vector<const std::uint32_t*> table;
  for (std::size_t i = 0; i < copies * pages; ++i)
    table.push_back(static_cast<const std::uint32_t*>(memory.get()) + i * page / 4);
  const Memory on_table = on_card(table);
  const LevelBytes levels = levels_of(bits);
  const Queries own = queries_of(some_queries(), levels);
  const Memory partials = allocate(static_cast<std::size_t>(kv_heads * spans * partial_floats(dim)) * sizeof(float)),
               out = allocate(static_cast<std::size_t>(queries * dim) * sizeof(float));
  const auto run = [&](bool combine) {
    return timer.median_us(static_cast<int>(std::clamp<std::size_t>(copies, 8, 64)), trials, [&](int node) {
      AttendWork work{
          static_cast<const std::uint32_t* const*>(on_table.get()) + static_cast<std::size_t>(node) % copies * pages,
          static_cast<const std::uint32_t*>(own.planes.get()),
          static_cast<const AttendQuery*>(own.facts.get()),
          kv_heads,
          0,
          tokens,
          spans,
          levels,
          levels,
          static_cast<float*>(partials.get()),
          static_cast<float*>(out.get())};
      attend(bits, dim, work, timer.stream(), combine);
    });
  };
  const Figures figures{run(false), run(true)};
  require(cudaGetLastError(), "a kernel");
  return figures;
}

int run(int argc, char** argv) {
  std::string output;
  int trials = 9;
  bool check_only = false;
  CLI::App app("Attention of one decoded token over packed pages on an NVIDIA card");
  app.add_option("--output", output, "Every figure, as JSON");
  app.add_option("--trials", trials, "Trials of a figure; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--check", check_only, "Compare with attention in double, and time nothing");
  CLI11_PARSE(app, argc, argv);

  cudaDeviceProp card{};
  require(cudaGetDeviceProperties(&card, 0), "the card");
  nlohmann::json document = {{"schema", 1},
                             {"kind", "attention on a card"},
                             {"card", card.name},
                             {"multiprocessors", card.multiProcessorCount},
                             {"trials", trials},
                             {"errors", nlohmann::json::array()},
                             {"rows", nlohmann::json::array()}};
  int wrong = 0;
  for (const int bits : {2, 3, 4})
    for (const auto& [first, tokens] :
         {std::pair{0, 1}, {0, 15}, {0, 16}, {0, 17}, {5, 250}, {0, 257}, {37, 1000}, {300, 2049}})
      for (const int spans : {1, 7, 66}) {
        const double error = error_of(bits, first, tokens, spans);
        document["errors"].push_back(
            {{"bits", bits}, {"first", first}, {"tokens", tokens}, {"spans", spans}, {"error", error}});
        if (error < 2e-3) continue;
        ++wrong;
        fmt::print(stderr, "{} bits, tokens {} to {}, {} spans: off by {:.2g}\n", bits, first, tokens, spans, error);
      }
  double worst = 0;
  for (const auto& one : document["errors"]) worst = std::max(worst, one["error"].get<double>());
  fmt::print("{} results against attention in double on {}: {} wrong, the largest error {:.2g}\n",
             document["errors"].size(), card.name, wrong, worst);
  if (wrong > 0) return 1;
  if (check_only) return 0;

  Timer timer;
  const double rate = logits::read_rate(trials, timer);
  document["read_gb_s"] = rate;
  fmt::print("a read reaches {:.0f} GB/s\n\n{:>4} {:>9} {:>6} {:>9} {:>6} {:>12} {:>6}\n", rate, "bits", "tokens",
             "spans", "us", "read", "with combine", "read");
  const int spans = std::min(most_spans, multiprocessors() / kv_heads);
  for (const int bits : {4, 3, 2})
    for (const int tokens : {1024, 16384, 131072, 262144, 1048576}) {
      const Figures figures = time_of(bits, tokens, spans, trials, timer);
      const double bytes = 2.0 * kv_heads * tokens * (dim * bits / 8.0 + 2);
      document["rows"].push_back({{"bits", bits},
                                  {"tokens", tokens},
                                  {"spans", spans},
                                  {"bytes", bytes},
                                  {"attend_us", figures.attend_us},
                                  {"both_us", figures.both_us}});
      fmt::print("{:>4} {:>9} {:>6} {:>9.2f} {:>6.2f} {:>12.2f} {:>6.2f}\n", bits, tokens, spans, figures.attend_us,
                 bytes / figures.attend_us / 1e3 / rate, figures.both_us, bytes / figures.both_us / 1e3 / rate);
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
    fmt::print(stderr, "attention-cuda: {}\n", error.what());
    return 1;
  }
}
